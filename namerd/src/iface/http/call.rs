//! [`Call`]: one request, and what all routes need of it.
//!
//! Called by the routes. Not for: reading bodies of dtabs.

use super::answer::{self, Answer, Refusal};
use super::feed::{Documents, Ends, Feed};
use super::lenient::AtStart;
use super::{HttpInterface, body};
use crate::access::{Caller, Denied, Needs};
use crate::iface::{Closing, Peer};
use bytes::Bytes;
use dtab::{Activity, State};
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use setup::tokens::bearer;
use tokio::time::timeout;

/// One request.
pub(super) struct Call<'a> {
    pub(super) api: &'a HttpInterface,
    pub(super) head: Parts,
    pub(super) from: From,
}

/// The connection of a request.
#[derive(Clone)]
pub(super) struct From {
    pub(super) peer: Peer,
    pub(super) closing: Closing,
    pub(super) at_start: AtStart,
}

/// Parameters of a request; the first of a name counts.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Both `&` and `;` separate parameters (namerd reference §2.3).
    fn parse(text: &str) -> Vec<(String, String)> {
        admin::parse_query(&text.replace(';', "&"))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// True for exactly `1`, `t` and `true`.
    pub(super) fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some("1" | "t" | "true"))
    }
}

/// The refusal of what cannot be known now, as on every route.
pub(super) fn unknown(what: &str, reason: &str) -> Refusal {
    let text = format!("{what}: not to be known now: {reason}");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).with(RETRY_AFTER, "1")
}

impl Call<'_> {
    /// The parameters of the query.
    pub(super) fn query(&self) -> Params {
        Params(Params::parse(self.head.uri.query().unwrap_or("")))
    }

    /// The parameters of a form in the body, and then those of the query. Any other body is given back.
    pub(super) async fn params(&self, body: Incoming) -> Result<(Params, Option<Incoming>), Refusal> {
        let media_type = self.head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let media_type = media_type.split(';').next().unwrap_or("").trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Ok((self.query(), Some(body)));
        }
        let form = self.read_question(body).await?;
        let mut params = Params::parse(&String::from_utf8_lossy(&form));
        params.extend(self.query().0);
        Ok((Params(params), None))
    }

    /// All of the body of a write.
    pub(super) async fn read(&self, body: Incoming) -> Result<Bytes, Refusal> {
        self.read_within(body, body::MAX_BODY).await
    }

    /// All of a body that holds one question.
    pub(super) async fn read_question(&self, body: Incoming) -> Result<Bytes, Refusal> {
        self.read_within(body, body::MAX_FORM).await
    }

    async fn read_within(&self, body: Incoming, most: usize) -> Result<Bytes, Refusal> {
        let all = body::read(body, most, self.from.peer.address.ip()).await?;
        if !self.head.headers.contains_key(TRANSFER_ENCODING) {
            self.from.at_start.set(all.len() as u64);
        }
        Ok(all)
    }

    /// Who is calling.
    pub(super) fn caller(&self) -> Result<Caller, Denied> {
        self.api.access.caller(&self.from.peer, self.token())
    }

    /// The token that the request shows.
    fn token(&self) -> Option<&[u8]> {
        self.head.headers.get(AUTHORIZATION).and_then(|shown| bearer(shown.as_bytes()))
    }

    /// Whether the caller may read `namespace`.
    pub(super) fn reads(&self, namespace: &str) -> Result<(), Refusal> {
        Ok(self.caller()?.may_read(namespace)?)
    }

    /// True for GET and HEAD.
    pub(super) fn is_get(&self) -> bool {
        matches!(self.head.method, Method::GET | Method::HEAD)
    }

    /// The first value of `activity`, or why there is none after a bounded wait.
    pub(super) async fn first<T: Clone>(&self, activity: &mut Activity<T>, what: &str) -> Result<T, Refusal> {
        let wait = self.api.params.first_answer;
        let text = match timeout(wait, activity.settled()).await {
            Ok(State::Ok(value)) => return Ok(value),
            Ok(State::Failed(reason)) => return Err(unknown(what, &reason)),
            Ok(State::Pending) | Err(_) => format!("{what}: not known yet after {wait:?}; try again"),
        };
        Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).with(RETRY_AFTER, "1"))
    }

    /// A stream of documents for a caller that may read what it `needs`, if this client may have one more.
    pub(super) fn stream(
        &self,
        content_type: Option<&'static str>,
        needs: Needs,
        documents: impl Documents,
    ) -> Result<Answer, Refusal> {
        let watches = &self.api.watches;
        let Some(permit) = watches.open_one(self.from.peer.address.ip()) else {
            let text =
                format!("this client address has {} streams open already, and may have no more", watches.limit());
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, text).with(RETRY_AFTER, "5"));
        };
        let standing = self.api.access.standing(&self.from.peer, self.token(), needs);
        let ends = Ends { closing: self.from.closing.clone(), standing };
        Ok(answer::stream(content_type, Feed::new(documents, ends, permit)))
    }
}

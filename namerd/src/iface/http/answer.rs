//! Responses, and refusals with a text for the caller.
//!
//! Called by everything in this interface. Not for: what a refusal means for the audit.

use super::feed::Feed;
use crate::access::Denied;
use crate::storage::StoreError;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use std::convert::Infallible;

/// A response: in one piece, or a stream.
pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A response without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Empty::new().boxed_unsync());
    *answer.status_mut() = status;
    answer
}

/// 200 with a body in one piece.
pub(super) fn whole(content_type: Option<&'static str>, body: String) -> Answer {
    typed(Response::new(Full::new(Bytes::from(body)).boxed_unsync()), content_type)
}

/// 200 with a stream of documents.
pub(super) fn stream(content_type: Option<&'static str>, feed: Feed) -> Answer {
    typed(Response::new(feed.boxed_unsync()), content_type)
}

fn typed(mut answer: Answer, content_type: Option<&'static str>) -> Answer {
    if let Some(content_type) = content_type {
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    answer
}

/// A text for the caller, which may repeat what the request said and so is never to be taken for HTML.
pub(super) fn text(status: StatusCode, text: &str) -> Answer {
    let mut answer = whole(Some("text/plain; charset=utf-8"), text.to_owned());
    *answer.status_mut() = status;
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Why a request is not answered as it wished.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal with this text, which gets a line end.
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into() + "\n", headers: Vec::new() }
    }

    /// A refusal with exactly this text, as the original had it.
    pub(super) fn exactly(status: StatusCode, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into(), headers: Vec::new() }
    }

    /// The same, and the connection is closed: what follows of the request is not read.
    pub(super) fn closing(self) -> Refusal {
        self.with(CONNECTION, "close")
    }

    pub(super) fn with(mut self, name: HeaderName, value: &'static str) -> Refusal {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    pub(super) fn into_answer(self) -> Answer {
        let mut answer = text(self.status, &self.text);
        answer.headers_mut().extend(self.headers);
        answer
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Refusal {
        match denied {
            Denied::Unauthenticated(text) => {
                Refusal::new(StatusCode::UNAUTHORIZED, text).with(WWW_AUTHENTICATE, "Bearer")
            }
            Denied::Forbidden(text) => Refusal::new(StatusCode::FORBIDDEN, text),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        let (status, advice) = match &error {
            StoreError::Exists => (StatusCode::CONFLICT, "; use PUT to replace its dtab"),
            StoreError::NotFound => {
                (StatusCode::NOT_FOUND, "; POST makes one, and /api/1/dtabs lists those that exist")
            }
            StoreError::Mismatch => (StatusCode::PRECONDITION_FAILED, "; read it again and repeat the change"),
            StoreError::BadName(_) => (StatusCode::BAD_REQUEST, ""),
            StoreError::Forbidden(_) => (StatusCode::FORBIDDEN, ""),
            StoreError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, ""),
        };
        let refusal = Refusal::new(status, format!("{error}{advice}"));
        match status {
            StatusCode::SERVICE_UNAVAILABLE => refusal.with(RETRY_AFTER, "1"),
            _ => refusal,
        }
    }
}

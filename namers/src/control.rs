//! The interpreter `io.l5d.namerd.http`: names by the HTTP API of a namerd, ours or Linkerd 1's (namerd reference §8.3).
//!
//! One connection per stream, as the API wants it. Everything that is not a stream of JSON documents is an error, and so is
//! its end: the watch table keeps the last good value and begins again after a back-off. A peer that is gone is found by
//! keep-alives of TCP, one that hangs by `probe`. Called through [`crate::remote::RemoteInterpreter`]. Not for: writing
//! dtabs.

mod connection;
mod documents;
mod probe;

use crate::remote::peers::Peers;
use crate::remote::{RemoteNames, TokenSource};
use crate::watch::{SourceError, Val, Watched};
use crate::wire::read;
use connection::Client;
use documents::Documents;
use dtab::{Addr, BoundName, BoxFuture, DelegateTree, Dtab, Exact, NameTree, Path};
use http_body_util::BodyExt;
use probe::Probes;
use serde_json::Value;
use std::sync::Arc;

/// What a request carries beside its question.
#[derive(Clone, Default)]
pub struct ControlOptions {
    /// The `Host` of requests; the address when there is none.
    pub host: Option<String>,
    /// The bearer token, for a namerd with access rules.
    pub token: Option<TokenSource>,
}

/// One namespace of a namerd.
pub struct ControlNames {
    shared: Arc<Shared>,
}

struct Shared {
    client: Arc<Client>,
    probes: Probes,
    namespace: String,
}

impl ControlNames {
    /// The names of `namespace` at `peers`.
    pub fn new(peers: Peers, namespace: &str, options: ControlOptions) -> ControlNames {
        let client = Arc::new(Client { peers, host: options.host, token: options.token });
        ControlNames { shared: Arc::new(Shared { client, probes: Probes::default(), namespace: namespace.to_owned() }) }
    }
}

impl Shared {
    fn target(&self, route: &str, path: &Path, more: &str) -> String {
        format!("/api/1/{route}/{}?path={}{more}", encoded(&self.namespace), encoded(&path.to_string()))
    }

    /// Follows a stream; `take` gets every document.
    async fn follow(
        &self,
        target: String,
        take: impl Fn(&Value) -> Result<(), String> + Send,
    ) -> Result<(), SourceError> {
        let mut answer = self.client.get(&target).await.map_err(SourceError)?;
        let address = answer.address;
        let probe = self.probes.of(&self.client, address);
        let mut documents = Documents::default();
        let reason = loop {
            let frame = tokio::select! {
                frame = answer.body.frame() => frame,
                reason = probe.failed() => break reason,
            };
            match frame {
                Some(Ok(frame)) => documents.push(frame.data_ref().map_or(&[], |data| &data[..])),
                Some(Err(error)) => break format!("its stream broke: {error}"),
                None => {
                    break documents
                        .rest()
                        .map_or("it ended the stream".into(), |rest| format!("it ended the stream: {rest}"));
                }
            }
            if let Err(reason) = taken(&mut documents, &take) {
                break reason;
            }
        };
        self.client.peers.avoid(address);
        Err(SourceError(format!("namerd at {address}: {reason}")))
    }
}

/// Hands every complete document on.
fn taken(documents: &mut Documents, take: &impl Fn(&Value) -> Result<(), String>) -> Result<(), String> {
    while let Some(document) = documents.next()? {
        take(&document)?;
    }
    Ok(())
}

/// Reports every value of a stream.
fn report<T: Val>(out: &Watched<T>, read: Result<T, String>) -> Result<(), String> {
    out.ok(read?);
    Ok(())
}

impl RemoteNames for ControlNames {
    fn follow_tree(
        &self,
        dtab: Dtab,
        path: Path,
        out: Watched<NameTree<BoundName>>,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let target = shared.target("bind", &path, &format!("&watch=1&dtab={}", encoded(&Exact(&dtab).to_string())));
            shared.follow(target, |document| report(&out, read::bound_tree(document))).await
        })
    }

    fn follow_addr(&self, id: Path, out: Watched<Addr>) -> BoxFuture<'static, Result<(), SourceError>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let target = shared.target("addr", &id, "&watch=1");
            let take = |document: &Value| match read::addr(document)? {
                Addr::Pending => Ok(()),
                // What was known stays.
                Addr::Failed(reason) => {
                    out.failed(&format!("namerd says: {reason}"));
                    Ok(())
                }
                addr => report(&out, Ok(addr)),
            };
            shared.follow(target, take).await
        })
    }

    fn explain(&self, dtab: Dtab, path: Path) -> BoxFuture<'_, Result<DelegateTree, String>> {
        Box::pin(async move {
            let target =
                self.shared.target("delegate", &path, &format!("&dtab={}", encoded(&Exact(&dtab).to_string())));
            let answer = self.shared.client.get(&target).await?;
            let address = answer.address;
            let body = connection::whole(answer.body).await;
            let parsed = body.and_then(|body| serde_json::from_slice(&body).map_err(|error| error.to_string()));
            parsed
                .and_then(|document: Value| read::delegation(&document))
                .map_err(|error| format!("namerd at {address}: {error}"))
        })
    }
}

/// For a query: everything that could mean something else is escaped.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests;

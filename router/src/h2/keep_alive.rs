//! [`KeepAlive`]: asking a silent peer by PING whether it is still there (RFC 9113 §6.7).
//!
//! Polled beside the connection by `serve` and `link`, which end it when no answer comes.

use crate::config::H2Params;
use h2::{Ping, PingPong};
use std::future::poll_fn;
use std::time::Duration;
use tokio::time::Instant;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepAlive {
    /// Pause between two questions; None for none.
    every: Option<Duration>,
    /// How long an answer may take.
    timeout: Duration,
}

/// What is to be counted.
pub(super) enum Event {
    /// A PING was sent.
    Asked,
    /// It was answered after this time.
    Answered(Duration),
    /// It was not.
    Silent,
}

impl KeepAlive {
    /// By `pingIntervalMs` and `pingTimeoutMs`.
    pub(crate) fn new(params: &H2Params) -> KeepAlive {
        KeepAlive { every: params.ping_every, timeout: params.ping_timeout }
    }

    /// Asks again and again; ends with what is wrong when no answer comes. `heard` tells the bytes that the peer has sent:
    /// one that speaks is alive, and its answer may be behind all that it has to say.
    pub(super) async fn ask(self, pings: Option<PingPong>, heard: impl Fn() -> u64, count: impl Fn(Event)) -> String {
        let (Some(mut pings), Some(every)) = (pings, self.every) else { return std::future::pending().await };
        loop {
            tokio::time::sleep(every).await;
            let asked = Instant::now();
            if pings.send_ping(Ping::opaque()).is_err() {
                // The connection is about to end.
                continue;
            }
            count(Event::Asked);
            loop {
                let before = heard();
                match tokio::time::timeout(self.timeout, poll_fn(|cx| pings.poll_pong(cx))).await {
                    Ok(Ok(_)) => break count(Event::Answered(asked.elapsed())),
                    // The connection tells its own end.
                    Ok(Err(_)) => std::future::pending().await,
                    Err(_) if heard() > before => {}
                    Err(_) => {
                        count(Event::Silent);
                        return format!("no answer to a PING, and nothing else, within {:?}", self.timeout);
                    }
                }
            }
        }
    }
}

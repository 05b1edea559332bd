//! Success rates of a destination, from the `/admin/metrics.json` of routers.
//!
//! Counters are read by the ids of the destination and compared with what they were before. Called by [`crate::shift`]'s
//! command. Not for: when to read, and what to do about it.

use crate::http::{Client, Request};
use crate::shift::Meter;
use crate::url::Url;
use ::http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use std::collections::BTreeMap;

/// Counters by where they were read and how they are called.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    success: BTreeMap<String, f64>,
    /// Requests that failed, and connections that could not be made: no request is counted for those.
    failures: BTreeMap<String, f64>,
    /// `rt/<router>/service/<path>/failures` of all services.
    services: BTreeMap<String, f64>,
}

/// Requests between two samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests that succeeded.
    pub success: f64,
    /// Requests that failed, and connections that could not be made.
    pub failures: f64,
    /// Requests to whatever service that failed, also those that reached no destination.
    pub lost: f64,
}

impl Rate {
    /// All requests.
    pub fn requests(&self) -> f64 {
        self.success + self.failures
    }

    /// Percent that succeeded; 100 without requests.
    pub fn percent(&self) -> f64 {
        if self.requests() > 0.0 { 100.0 * self.success / self.requests() } else { 100.0 }
    }
}

impl Sample {
    /// What happened since `before`. A counter that has gone back began anew when its router did.
    pub fn since(&self, before: &Sample) -> Rate {
        let grown = |now: &BTreeMap<String, f64>, before: &BTreeMap<String, f64>| {
            let delta = |(key, now): (&String, &f64)| match before.get(key) {
                Some(before) if before <= now => now - before,
                _ => *now,
            };
            now.iter().map(delta).sum()
        };
        Rate {
            success: grown(&self.success, &before.success),
            failures: grown(&self.failures, &before.failures),
            lost: grown(&self.services, &before.services),
        }
    }

    /// Adds the counters of one router's metrics: of the clients of the ids, and the failures of all services.
    pub fn add(&mut self, place: &str, metrics: &Value, ids: &[String]) -> Result<(), String> {
        let object = metrics.as_object().ok_or("metrics are an object of numbers by name")?;
        let is_ours = |scope: &str| ids.iter().any(|id| is_client(scope, id));
        for (key, value) in object {
            let counters = match read(key) {
                Some((scope, Counter::Success)) if is_ours(scope) => &mut self.success,
                Some((scope, Counter::Failures | Counter::Connects)) if is_ours(scope) => &mut self.failures,
                // The total stands for its classes where there is one.
                Some((scope, Counter::ConnectsOfClass))
                    if is_ours(scope) && !object.contains_key(&format!("{scope}/{CONNECTS}")) =>
                {
                    &mut self.failures
                }
                // Other things below a service have failures, too, but only services have requests.
                Some((scope, Counter::Failures))
                    if is_service(scope) && object.contains_key(&format!("{scope}/requests")) =>
                {
                    &mut self.services
                }
                _ => continue,
            };
            counters.insert(format!("{place} {key}"), value.as_f64().unwrap_or_default());
        }
        Ok(())
    }
}

/// Where a client counts connections that were refused, timed out, or failed in TLS.
const CONNECTS: &str = "service_creation/failures";

enum Counter {
    Success,
    Failures,
    Connects,
    ConnectsOfClass,
}

/// The scope of a counter, and which it is. None for those that do not matter.
fn read(key: &str) -> Option<(&str, Counter)> {
    let (scope, name) = key.rsplit_once('/')?;
    if let Some(scope) = client_of(key) {
        return Some((scope, Counter::Connects));
    }
    if let Some(scope) = client_of(scope) {
        return Some((scope, Counter::ConnectsOfClass));
    }
    match name {
        "success" => Some((scope, Counter::Success)),
        "failures" => Some((scope, Counter::Failures)),
        _ => None,
    }
}

fn client_of(connects: &str) -> Option<&str> {
    connects.strip_suffix(CONNECTS)?.strip_suffix('/')
}

/// True for `rt/<router>/service/<path>`, and for what is below it.
fn is_service(scope: &str) -> bool {
    let service = scope.strip_prefix("rt/").and_then(|rest| rest.split_once("/service/"));
    service.is_some_and(|(router, _)| !router.contains('/'))
}

/// True for `rt/<router>/client/<id>`, also when a transformer of the router stands before the id.
fn is_client(scope: &str, id: &str) -> bool {
    let client = scope.strip_prefix("rt/").and_then(|rest| rest.split_once("/client/"));
    let Some((router, client)) = client else { return false };
    let bare = id.trim_start_matches('/');
    !router.contains('/')
        && (client == bare || (client.starts_with("%/") && client.strip_suffix(bare).is_some_and(|t| t.ends_with('/'))))
}

/// The routers that are asked.
pub struct Routers {
    client: Client,
    urls: Vec<Url>,
    ids: Vec<String>,
}

impl Routers {
    /// Routers by the URLs of their admin servers, or of their metrics.
    pub fn new(client: Client, urls: Vec<Url>, ids: Vec<String>) -> Routers {
        let urls = urls.into_iter().map(|url| if url.path == "/" { url.below("admin/metrics.json") } else { url });
        Routers { client, urls: urls.collect(), ids }
    }
}

impl Meter for Routers {
    async fn sample(&self) -> Result<Sample, String> {
        let mut sample = Sample::default();
        for url in &self.urls {
            let request = Request { method: Method::GET, url: url.clone(), headers: HeaderMap::new(), body: None };
            let answer = self.client.send(request).await.map_err(|error| error.to_string())?;
            if answer.status != StatusCode::OK {
                return Err(format!("{}: {} {}", url.shown(), answer.status.as_u16(), answer.reason));
            }
            let metrics = serde_json::from_slice(&answer.body).map_err(|error| format!("{}: {error}", url.shown()))?;
            sample.add(&url.shown(), &metrics, &self.ids).map_err(|why| format!("{}: {why}", url.shown()))?;
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_clients_of_the_ids_count() {
        let ids = ["/#/io.l5d.fs/w2".to_owned()];
        let sample = |n: u64| {
            let mut sample = Sample::default();
            let metrics = json!({
                "rt/http/client/#/io.l5d.fs/w2/success": n, "rt/http/client/#/io.l5d.fs/w2/failures": 2,
                "rt/http/client/%/io.l5d.port/80/#/io.l5d.fs/w2/success": 10 * n,
                "rt/http/client/#/io.l5d.fs/w2/service/svc/w/success": 1000 * n,
                "rt/http/client/#/io.l5d.fs/w22/success": 1000 * n, "rt/http/service/svc/w/success": 1000 * n,
                "jvm/uptime": 1.5, "plain": 3,
            });
            sample.add("http://r", &metrics, &ids).unwrap();
            sample
        };
        let rate = sample(5).since(&sample(3));
        assert_eq!(rate, Rate { success: 22.0, failures: 0.0, lost: 0.0 });
        assert_eq!(sample(5).since(&Sample::default()).percent(), 100.0 * 55.0 / 57.0);
        assert_eq!(sample(1).since(&sample(3)).success, 11.0, "a restart begins at zero");
        assert!(Sample::default().add("r", &json!([]), &ids).is_err());
    }

    #[test]
    fn connections_that_fail_and_services_without_a_destination_count() {
        let ids = ["/#/io.l5d.fs/w2".to_owned()];
        for (metrics, failures, lost) in [
            (json!({"rt/h/client/#/io.l5d.fs/w2/service_creation/failures/java.net.ConnectException": 7}), 7.0, 0.0),
            (
                json!({
                    "rt/h/client/#/io.l5d.fs/w2/service_creation/failures": 5,
                    "rt/h/client/#/io.l5d.fs/w2/service_creation/failures/a.A": 3,
                    "rt/h/client/#/io.l5d.fs/w2/service_creation/failures/a.B": 2,
                }),
                5.0,
                0.0,
            ),
            (
                json!({
                    "rt/h/client/#/io.l5d.fs/w2/failures": 1,
                    "rt/h/client/#/io.l5d.fs/w2/service_creation/failures/a.A": 3,
                    "rt/h/client/#/io.l5d.fs/w2/service_creation/failures/a.A/a.C": 3,
                    "rt/h/client/#/io.l5d.fs/w2/service_creation/failures/a.B": 2,
                    "rt/h/client/#/io.l5d.fs/w1/service_creation/failures/a.A": 100,
                }),
                6.0,
                0.0,
            ),
            (
                json!({
                    "rt/h/service/svc/w/requests": 9, "rt/h/service/svc/w/failures": 4,
                    "rt/h/service/svc/w/failures/com.twitter.finagle.NoBrokersAvailableException": 4,
                    "rt/h/service/svc/w/http/stream/response/failures": 50,
                    "rt/h/service/svc/v/requests": 1, "rt/h/service/svc/v/failures": 1,
                    "rt/h/client/#/x/service/svc/w/requests": 9, "rt/h/client/#/x/service/svc/w/failures": 100,
                }),
                0.0,
                5.0,
            ),
        ] {
            let mut sample = Sample::default();
            sample.add("r", &metrics, &ids).unwrap();
            let rate = sample.since(&Sample::default());
            assert_eq!(rate, Rate { success: 0.0, failures, lost }, "{metrics}");
        }
    }
}

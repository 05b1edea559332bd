//! Keys that older Linkerd releases had, or that people put at the wrong level, with what to write instead
//! (config reference §8.1, §19).
//!
//! For: `reader`, which asks before it calls a key unknown. Not for: old names of kinds (see `kinds`).

/// The object a key stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The top of the file.
    Top,
    /// `admin`.
    Admin,
    /// An entry of `routers`.
    Router,
    /// An entry of `servers`.
    Server,
    /// `client`, or an entry of its `configs`.
    Client,
    /// `service`, or an entry of its `configs`.
    Service,
    /// `tls` of a listener.
    ServerTls,
    /// `tls` towards a peer.
    ClientTls,
    /// The top of a namerd.yaml.
    Namerd,
    /// An entry of `interfaces`.
    Interface,
    /// Any other object.
    Other,
}

use Place::{Admin, Client, ClientTls, Interface, Namerd, Router, Server, ServerTls, Service, Top};

const ATTEMPT_OR_TOTAL: &str = "write `client.requestAttemptTimeoutMs` (each attempt) or `service.totalTimeoutMs` \
    (the whole request)";
const NAMERD: &str = "it belongs to `namerd.yaml`, not to `linkerd.yaml`";
const LINKERD: &str = "it belongs to `linkerd.yaml`, not to `namerd.yaml`";
const POLLS: &str = "remove it: Linkerd dropped it in 1.3.5";
const NETTY: &str = "remove it: it chose a JVM network library and was dropped in Linkerd 1.3";
const STREAM: &str = "bodies always stream; remove it, or write `streamAfterContentLengthKB` as Linkerd 1.7 does";
const TO_CLIENT: &str = "it belongs under `client`";
const TO_SERVICE: &str = "it belongs under `service`";
const TO_ROUTER: &str = "it belongs to a router, in the list `routers`";
const THRIFT: &str = "it belongs to thrift routers";
const H2: &str = "it belongs to h2 routers";
const HTTP: &str = "it belongs to http routers";
const H2_LOG: &str = "it belongs to h2 routers; http routers have the same as `httpAccessLog...`";
const HTTP_LOG: &str = "it belongs to http routers; h2 routers have the same as `h2AccessLog...`";
const HEADER_LIST: &str = "write `maxHeaderListBytes`: only the documents of Linkerd spell it so";
const TO_ENDPOINT: &str = "write it in an entry of `servers`, or under `client`";
const TO_SERVER: &str = "it belongs to an entry of `servers`";
const ANYWHERE: &str = "YAML merge keys are not supported, as in Linkerd; repeat the keys";

const MOVED: &[(Place, &str, &str)] = &[
    (Namerd, "routers", LINKERD),
    (Namerd, "usage", LINKERD),
    (Namerd, "tracers", "write a telemeter in the list `telemetry`"),
    (Namerd, "interpreter", LINKERD),
    (Interface, "retryBaseSecs", POLLS),
    (Interface, "retryJitterSecs", POLLS),
    (Interface, "experimental", "interfaces do not have it"),
    (Top, "tracers", "write a telemeter of kind `io.l5d.zipkin` in the list `telemetry`"),
    (Top, "announcers", TO_ROUTER),
    (Top, "interpreter", TO_ROUTER),
    (Top, "identifier", TO_ROUTER),
    (Top, "dtab", TO_ROUTER),
    (Top, "baseDtab", "write `dtab` in a router"),
    (Top, "storage", NAMERD),
    (Top, "interfaces", NAMERD),
    (Router, "baseDtab", "use `dtab`"),
    (Router, "timeoutMs", ATTEMPT_OR_TOTAL),
    (Router, "responseClassifier", "use `service.responseClassifier`"),
    (Router, "retries", "use `service.retries`"),
    (Router, "totalTimeoutMs", TO_SERVICE),
    (Router, "failFast", "use `client.failFast`"),
    (Router, "loadBalancer", TO_CLIENT),
    (Router, "failureAccrual", TO_CLIENT),
    (Router, "requeueBudget", TO_CLIENT),
    (Router, "hostConnectionPool", TO_CLIENT),
    (Router, "requestAttemptTimeoutMs", TO_CLIENT),
    (Router, "connectTimeoutMs", TO_CLIENT),
    (Router, "loggers", "use `client.requestAuthorizers`"),
    (Router, "requestAuthorizers", "use `client.requestAuthorizers`"),
    (Router, "httpUriInDst", "it is an option of the identifier `io.l5d.methodAndHost`"),
    (Router, "maxChunkKB", STREAM),
    (Router, "maxRequestKB", STREAM),
    (Router, "maxResponseKB", STREAM),
    (Router, "engine", NETTY),
    (Router, "namers", "it belongs to the top level of the file"),
    (Router, "tls", "write it in an entry of `servers`, or under `client`"),
    (Router, "port", "write it in an entry of `servers`"),
    (Router, "ip", "write it in an entry of `servers`"),
    (Router, "thriftProtocol", THRIFT),
    (Router, "thriftMethodInDst", THRIFT),
    (Router, "h2AccessLog", H2_LOG),
    (Router, "h2AccessLogRollPolicy", H2_LOG),
    (Router, "h2AccessLogAppend", H2_LOG),
    (Router, "h2AccessLogRotateCount", H2_LOG),
    (Router, "h2AccessLogFormat", H2_LOG),
    (Router, "h2AccessLogQueueKB", H2_LOG),
    (Router, "httpAccessLog", HTTP_LOG),
    (Router, "httpAccessLogRollPolicy", HTTP_LOG),
    (Router, "httpAccessLogAppend", HTTP_LOG),
    (Router, "httpAccessLogRotateCount", HTTP_LOG),
    (Router, "httpAccessLogFormat", HTTP_LOG),
    (Router, "httpAccessLogQueueKB", HTTP_LOG),
    (Router, "initialStreamWindowBytes", TO_ENDPOINT),
    (Router, "headerTableBytes", TO_ENDPOINT),
    (Router, "maxFrameBytes", TO_ENDPOINT),
    (Router, "maxHeaderListBytes", TO_ENDPOINT),
    (Router, "windowUpdateRatio", TO_ENDPOINT),
    (Router, "maxConcurrentStreamsPerConnection", TO_SERVER),
    (Server, "engine", NETTY),
    (Server, "thriftProtocol", THRIFT),
    (Server, "thriftFramed", THRIFT),
    (Server, "maxHeaderListByts", HEADER_LIST),
    (Server, "timestampHeader", HTTP),
    (Client, "engine", NETTY),
    (Client, "thriftProtocol", THRIFT),
    (Client, "thriftFramed", THRIFT),
    (Client, "attemptTTwitterUpgrade", THRIFT),
    (Client, "maxHeaderListByts", HEADER_LIST),
    (Client, "maxConcurrentStreamsPerConnection", TO_SERVER),
    (Client, "h2Limits", TO_SERVER),
    (Client, "retries", "use `service.retries`"),
    (Client, "totalTimeoutMs", TO_SERVICE),
    (Client, "responseClassifier", TO_SERVICE),
    (Client, "prefix", "it belongs to an entry of `configs` of kind `io.l5d.static`"),
    (Client, "configs", "it needs `kind: io.l5d.static` beside it"),
    (Service, "requestAttemptTimeoutMs", TO_CLIENT),
    (Service, "failFast", TO_CLIENT),
    (Service, "loadBalancer", TO_CLIENT),
    (Service, "failureAccrual", TO_CLIENT),
    (Client, "maxSize", "use `hostConnectionPool.maxSize`"),
    (Client, "maxWaiters", "use `hostConnectionPool.maxWaiters`"),
    (Service, "connectTimeoutMs", TO_CLIENT),
    (Service, "maxAttempts", "use `retries.maxAttempts`"),
    (Service, "budget", "use `retries.budget`"),
    (Service, "backoff", "use `retries.backoff`"),
    (Service, "classificationTimeoutMs", H2),
    (Service, "retryBufferSize", H2),
    (Service, "prefix", "it belongs to an entry of `configs` of kind `io.l5d.static`"),
    (Service, "configs", "it needs `kind: io.l5d.static` beside it"),
    (ServerTls, "enabled", "TLS is on when `tls` is there, as in Linkerd 1.7; remove the key, or the whole object"),
    (ServerTls, "trustCerts", "use `caCertPath` and `requireClientAuth`"),
    (ServerTls, "trustCertsBundle", "use `caCertPath` and `requireClientAuth`"),
    (ServerTls, "kind", "remove it: there is one kind of server TLS since Linkerd 1.0"),
    (
        ClientTls,
        "kind",
        "remove it: for `io.l5d.noValidation` write `disableValidation: true`, for the others `commonName`",
    ),
    (
        ClientTls,
        "names",
        "write an entry with `prefix` and `tls.commonName` for each of them, of `kind: io.l5d.static`",
    ),
    (ClientTls, "caCertPath", "use `trustCertsBundle`"),
    (ClientTls, "certPath", "it belongs under `clientAuth`"),
    (ClientTls, "keyPath", "it belongs under `clientAuth`"),
    (ClientTls, "ciphers", "Linkerd 1 has no `ciphers` for clients either; `protocols` can be chosen"),
    (Admin, "enabled", "the administrative server is always on; `security` closes parts of it"),
];

/// What to write instead of a key that is not valid here.
pub fn moved(place: Place, key: &str) -> Option<&'static str> {
    if key == "<<" {
        return Some(ANYWHERE);
    }
    MOVED.iter().find(|(at, name, _)| *at == place && *name == key).map(|(_, _, hint)| *hint)
}

//! [`RouteError`]: the one error type of the request path: what went wrong, whose fault it is, whether trying again
//! can help (data-plane reference §8).
//!
//! `respond` maps a kind to a response, exhaustively. The text is for the operator: what failed, for which name, what
//! to check.

use crate::proxy_status::ProxyError;
use std::fmt;

/// What went wrong. The comment says which row of the error table it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No identifier named the request.
    Unidentified,
    /// An identifier threw.
    IdentifierThrew,
    /// `l5d-dtab` or `l5d-ctx-dtab` does not parse.
    BadOverride,
    /// The override asks for what the listener does not allow, or for what no request may (requirements §5).
    OverrideDenied,
    /// The request breaks HTTP in a way that only the router judges (Host, Expect, method).
    BadRequest,
    /// `Expect` asks for something unknown.
    ExpectationFailed,
    /// CONNECT is not served.
    MethodNotAllowed,
    /// The request is for another host than its TLS connection.
    Misdirected,
    /// Too many hops in `Via`.
    CallDepth,
    /// The name leads back to the listener that took the request.
    SelfLoop,
    /// The name is negative, or has no address.
    NoHosts,
    /// The name could not be bound.
    BindingFailed,
    /// The name was not bound in time.
    BindingTimeout,
    /// No connection to the chosen address.
    ConnectFailed,
    /// No connection to the chosen address within `connectTimeoutMs`.
    ConnectTimeout,
    /// `hostConnectionPool.maxWaiters` is reached.
    TooManyWaiters,
    /// The upstream closed or reset the connection.
    UpstreamClosed,
    /// The upstream's answer is not HTTP.
    UpstreamFraming,
    /// `requestAttemptTimeoutMs` is over.
    AttemptTimeout,
    /// `totalTimeoutMs` is over.
    TotalTimeout,
    /// The server's `timeoutMs` is over.
    ServerTimeout,
    /// The deadline that the request carries is over, and the server enforces it.
    DeadlineExceeded,
    /// `maxConcurrentRequests` is reached.
    Overload,
    /// The request's body broke off or was not HTTP.
    DownstreamBody,
    /// The request's body is longer than `maxRequestBodyKB`.
    RequestTooLarge,
    /// The request's trailers are longer than `maxTrailersKB`.
    TrailersTooLarge,
    /// The response announces a body longer than `maxResponseBodyKB`.
    ResponseTooLarge,
    /// The client stopped sending in the middle of a request body.
    BodyTimeout,
    /// The client is gone; nobody reads an answer.
    ClientGone,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The client.
    Downstream,
    /// The service behind us.
    Upstream,
    /// Names and discovery.
    Naming,
    /// The router itself.
    Router,
}

/// A failure on the request path.
#[derive(Debug, Clone)]
pub struct RouteError {
    /// What.
    pub kind: Kind,
    /// The text for people.
    pub text: String,
    /// True when it is known that no byte of the request was acted on.
    pub not_dispatched: bool,
    /// What RFC 9209 calls it, where that says more than the kind.
    pub cause: Option<ProxyError>,
    /// The code with which the service has reset the stream; a client that speaks HTTP/2 is told the same.
    pub reset: Option<h2::Reason>,
}

impl RouteError {
    /// An error of this kind with this text.
    pub fn new(kind: Kind, text: impl Into<String>) -> RouteError {
        RouteError { kind, text: text.into(), not_dispatched: false, cause: None, reset: None }
    }

    /// Marks that the request did not reach a backend.
    pub fn undispatched(mut self) -> RouteError {
        self.not_dispatched = true;
        self
    }

    /// Says more precisely what it was.
    pub fn because(mut self, cause: ProxyError) -> RouteError {
        self.cause = Some(cause);
        self
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for RouteError {}

impl Origin {
    /// The label of the metric `route_errors_total{origin}`.
    pub fn label(self) -> &'static str {
        match self {
            Origin::Downstream => "downstream",
            Origin::Upstream => "upstream",
            Origin::Naming => "naming",
            Origin::Router => "router",
        }
    }
}

impl Kind {
    /// The reason under which a refused request is counted in `rejected_total`; None for what is no refusal
    /// (attacks, rule R).
    pub fn rejected(self) -> Option<&'static str> {
        match self {
            Kind::BadRequest => Some("bad-request"),
            Kind::ExpectationFailed => Some("expectation"),
            Kind::MethodNotAllowed => Some("method-not-allowed"),
            Kind::Misdirected => Some("misdirected"),
            Kind::CallDepth => Some("call-depth"),
            Kind::SelfLoop => Some("self-loop"),
            Kind::BadOverride => Some("bad-override"),
            Kind::TooManyWaiters => Some("pool-waiters"),
            Kind::OverrideDenied => Some("override-denied"),
            Kind::RequestTooLarge => Some("body-too-large"),
            Kind::TrailersTooLarge => Some("trailers-too-large"),
            Kind::ResponseTooLarge => Some("response-body-too-large"),
            _ => None,
        }
    }

    /// The name that callers learn who are told nothing else (requirements P6.2).
    pub fn code(self) -> &'static str {
        match self {
            Kind::Unidentified => "unknown-destination",
            Kind::IdentifierThrew => "bad-name",
            Kind::BadOverride => "bad-override",
            Kind::OverrideDenied => "override-denied",
            Kind::BadRequest => "bad-request",
            Kind::ExpectationFailed => "expectation-failed",
            Kind::MethodNotAllowed => "method-not-allowed",
            Kind::Misdirected => "misdirected",
            Kind::CallDepth => "too-many-hops",
            Kind::SelfLoop => "loop",
            Kind::NoHosts => "no-route",
            Kind::BindingFailed => "naming-failed",
            Kind::BindingTimeout => "naming-timeout",
            Kind::ConnectFailed | Kind::ConnectTimeout => "connection-failed",
            Kind::TooManyWaiters => "too-many-waiters",
            Kind::UpstreamClosed => "connection-closed",
            Kind::UpstreamFraming => "bad-response",
            Kind::AttemptTimeout | Kind::TotalTimeout | Kind::ServerTimeout | Kind::DeadlineExceeded => "timeout",
            Kind::Overload => "overload",
            Kind::DownstreamBody => "bad-body",
            Kind::RequestTooLarge => "body-too-large",
            Kind::TrailersTooLarge => "trailers-too-large",
            Kind::ResponseTooLarge => "response-too-large",
            Kind::BodyTimeout => "body-timeout",
            Kind::ClientGone => "client-gone",
        }
    }

    /// Whose fault errors of this kind are.
    pub fn origin(self) -> Origin {
        match self {
            Kind::Unidentified
            | Kind::BadOverride
            | Kind::OverrideDenied
            | Kind::BadRequest
            | Kind::ExpectationFailed
            | Kind::MethodNotAllowed
            | Kind::Misdirected
            | Kind::CallDepth
            | Kind::DownstreamBody
            | Kind::RequestTooLarge
            | Kind::TrailersTooLarge
            | Kind::BodyTimeout
            | Kind::ClientGone => Origin::Downstream,
            Kind::NoHosts | Kind::BindingFailed | Kind::BindingTimeout | Kind::IdentifierThrew | Kind::SelfLoop => {
                Origin::Naming
            }
            Kind::ConnectFailed
            | Kind::ConnectTimeout
            | Kind::UpstreamClosed
            | Kind::UpstreamFraming
            | Kind::ResponseTooLarge
            | Kind::AttemptTimeout => Origin::Upstream,
            Kind::TotalTimeout
            | Kind::ServerTimeout
            | Kind::DeadlineExceeded
            | Kind::TooManyWaiters
            | Kind::Overload => Origin::Router,
        }
    }

    /// The class name that Linkerd 1 dashboards know it by (telemetry reference §4.1, `failures/<class>`).
    pub fn class(self) -> &'static str {
        match self {
            Kind::Unidentified
            | Kind::BadRequest
            | Kind::ExpectationFailed
            | Kind::MethodNotAllowed
            | Kind::Misdirected => "io.buoyant.router.RoutingFactory$UnknownDst",
            Kind::IdentifierThrew | Kind::BadOverride | Kind::OverrideDenied => "java.lang.IllegalArgumentException",
            Kind::CallDepth | Kind::SelfLoop => {
                "io.buoyant.linkerd.protocol.http.MaxCallDepthFilter$MaxCallDepthException"
            }
            Kind::NoHosts => "com.twitter.finagle.NoBrokersAvailableException",
            Kind::BindingFailed => "com.twitter.finagle.Failure",
            Kind::BindingTimeout => "com.twitter.finagle.RequestTimeoutException",
            Kind::ConnectFailed | Kind::ConnectTimeout => "com.twitter.finagle.ConnectionFailedException",
            Kind::TooManyWaiters => "com.twitter.finagle.TooManyWaitersException",
            Kind::DeadlineExceeded => "com.twitter.finagle.service.DeadlineFilter$DeadlineExceededException",
            Kind::UpstreamClosed => "com.twitter.finagle.ChannelClosedException",
            Kind::RequestTooLarge | Kind::TrailersTooLarge | Kind::ResponseTooLarge => {
                "com.twitter.finagle.http.TooLongMessageException"
            }
            Kind::UpstreamFraming => "io.buoyant.linkerd.protocol.http.FramingFilter$FramingException",
            Kind::AttemptTimeout => "com.twitter.finagle.IndividualRequestTimeoutException",
            Kind::TotalTimeout => "com.twitter.finagle.GlobalRequestTimeoutException",
            Kind::ServerTimeout => "com.twitter.finagle.ServerRequestTimeoutException",
            Kind::Overload => "rejected/com.twitter.finagle.Failure",
            Kind::DownstreamBody | Kind::BodyTimeout | Kind::ClientGone => {
                "com.twitter.finagle.CancelledRequestException"
            }
        }
    }
}

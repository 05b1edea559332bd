//! The kinds that each polymorphic object may have: those of this release, those of Linkerd 1 that are still to come,
//! and old names (config reference §5–§14, §19).
//!
//! For: the readers of those objects, which learn the kind here and stop when it is not built. Not for: options.

use super::moved::Place;
use super::problem::quote;
use super::reader::{Bad, Context, Reader};
use super::scalar::{boolean, string};

/// The kinds of one object.
pub struct Kinds {
    /// The key that holds the kind.
    pub key: &'static str,
    /// With article, for messages.
    pub noun: &'static str,
    /// Those of this release.
    pub built: &'static [&'static str],
    /// Those of Linkerd 1 that are still to come.
    pub later: &'static [&'static str],
    /// Those of `later` that Linkerd demands `experimental: true` for (config reference §16).
    pub experimental: &'static [&'static str],
    /// Old names with what to write instead.
    pub old: &'static [(&'static str, &'static str)],
}

const NONE: Kinds = Kinds { key: "kind", noun: "", built: &[], later: &[], experimental: &[], old: &[] };

/// Protocols of routers (config reference §5).
pub const PROTOCOLS: Kinds = Kinds {
    key: "protocol",
    noun: "a protocol",
    built: &["http", "h2"],
    later: &["thrift", "thriftmux", "mux"],
    experimental: &["thriftmux"],
    old: &[("https", "write `http`, and `tls` in the server or the client")],
};

/// Namers (config reference §11).
pub const NAMERS: Kinds = Kinds {
    noun: "a namer",
    built: &["io.l5d.fs", "io.l5d.rewrite"],
    later: &[
        "io.l5d.k8s",
        "io.l5d.k8s.ns",
        "io.l5d.k8s.external",
        "io.l5d.k8s.istio",
        "io.l5d.consul",
        "io.l5d.marathon",
        "io.l5d.serversets",
        "io.l5d.zkLeader",
        "io.l5d.curator",
        "io.l5d.dnssrv",
        "io.l5d.rancher",
    ],
    experimental: &["io.l5d.k8s.external", "io.l5d.k8s.istio", "io.l5d.curator", "io.l5d.dnssrv", "io.l5d.rancher"],
    ..NONE
};

/// Interpreters (config reference §9).
pub const INTERPRETERS: Kinds = Kinds {
    noun: "an interpreter",
    built: &["default", "io.l5d.fs", "io.l5d.namerd", "io.l5d.namerd.http", "io.l5d.mesh"],
    later: &["io.l5d.k8s.configMap", "io.l5d.consul.interpreter", "io.l5d.k8s.istio"],
    experimental: &["io.l5d.k8s.configMap", "io.l5d.k8s.istio"],
    old: &[("io.l5d.consul", "write `io.l5d.consul.interpreter`")],
    ..NONE
};

/// Transformers (config reference §10).
pub const TRANSFORMERS: Kinds = Kinds {
    noun: "a transformer",
    built: &[
        "io.l5d.port",
        "io.l5d.localhost",
        "io.l5d.specificHost",
        "io.l5d.k8s.localnode",
        "io.l5d.replace",
        "io.l5d.const",
    ],
    later: &["io.l5d.k8s.daemonset"],
    ..NONE
};

/// Announcers (config reference §13).
pub const ANNOUNCERS: Kinds = Kinds { noun: "an announcer", later: &["io.l5d.serversets"], ..NONE };

/// Request authorizers (config reference §14.4).
pub const AUTHORIZERS: Kinds = Kinds { noun: "a request authorizer", later: &["io.l5d.k8s.istio"], ..NONE };

/// Trace propagators (config reference §14.3).
pub const PROPAGATORS: Kinds =
    Kinds { noun: "a trace propagator", built: &["io.l5d.default"], later: &["io.l5d.zipkin"], ..NONE };

/// Identifiers (config reference §6). Linkerd has `header.path` for h2 routers only, and for those no `header`,
/// `methodAndHost`, `path` and `static`.
pub const IDENTIFIERS: Kinds = Kinds {
    noun: "an identifier",
    built: &[
        "io.l5d.header.token",
        "io.l5d.header",
        "io.l5d.header.path",
        "io.l5d.methodAndHost",
        "io.l5d.path",
        "io.l5d.static",
    ],
    later: &["io.l5d.ingress", "io.l5d.k8s.istio", "io.l5d.k8s.istio-ingress"],
    old: &[
        ("io.l5d.headerToken", "write `io.l5d.header.token`"),
        ("io.l5d.headerPath", "write `io.l5d.header.path`"),
        ("io.l5d.http.ingress", "write `io.l5d.ingress`"),
        ("io.l5d.h2.ingress", "write `io.l5d.ingress`"),
        ("http.ingress", "write `io.l5d.ingress`"),
        ("h2.ingress", "write `io.l5d.ingress`"),
    ],
    ..NONE
};

/// Labelers of `addForwardedHeader` (config reference §5.1).
pub const LABELERS: Kinds = Kinds {
    noun: "a labeler",
    built: &["ip", "ip:port", "requestRandom", "connectionRandom", "router", "static"],
    ..NONE
};

/// Telemeters (config reference §14.1).
pub const TELEMETERS: Kinds = Kinds {
    noun: "a telemeter",
    built: &["io.l5d.prometheus"],
    later: &["io.l5d.recentRequests", "io.l5d.zipkin", "io.l5d.tracelog", "io.l5d.influxdb", "io.l5d.statsd"],
    experimental: &["io.l5d.statsd"],
    old: &[
        ("io.l5d.commonMetrics", "remove it, `/admin/metrics.json` is always there; or write `io.l5d.prometheus`"),
        ("io.zipkin.http", "it comes from a plug-in of Linkerd; Switchyard loads no plug-ins"),
    ],
    ..NONE
};

/// Load balancers (config reference §8.3).
pub const BALANCERS: Kinds =
    Kinds { noun: "a load balancer", built: &["p2c", "ewma", "aperture", "heap", "roundRobin"], ..NONE };

/// Failure accrual policies (config reference §8.4).
pub const ACCRUALS: Kinds = Kinds {
    noun: "a failure accrual policy",
    built: &["io.l5d.consecutiveFailures", "io.l5d.successRate", "io.l5d.successRateWindowed", "none"],
    ..NONE
};

/// Back-offs (config reference §7.4).
pub const BACKOFFS: Kinds = Kinds { noun: "a backoff", built: &["constant", "jittered"], ..NONE };

/// `client` and `service` (config reference §4.3, §8.1).
pub const SECTIONS: Kinds = Kinds { noun: "a kind of section", built: &["io.l5d.global", "io.l5d.static"], ..NONE };

/// Where namerd keeps dtabs (config reference §15.1).
pub const STORAGES: Kinds = Kinds {
    noun: "a storage",
    built: &["io.switchyard.local", "io.l5d.inMemory", "io.l5d.etcd", "io.l5d.consul", "io.l5d.zk"],
    later: &["io.l5d.k8s"],
    ..NONE
};

/// Interfaces of namerd (config reference §15.2).
pub const INTERFACES: Kinds = Kinds {
    noun: "an interface",
    built: &["io.l5d.httpController", "io.l5d.mesh", "io.l5d.thriftNameInterpreter"],
    later: &["io.l5d.destination"],
    ..NONE
};

const FOR_H2: &str = "it is for h2 routers; http routers have the same under `io.l5d.http.`";
const FOR_HTTP: &str = "it is for http routers; h2 routers have the same under `io.l5d.h2.`";
const GRPC: &str = "it is for h2 routers";

/// Response classifiers of http routers (config reference §7.1, §19.2).
pub const CLASSIFIERS: Kinds = Kinds {
    noun: "a response classifier",
    built: &[
        "io.l5d.http.nonRetryable5XX",
        "io.l5d.http.retryableRead5XX",
        "io.l5d.http.retryableIdempotent5XX",
        "io.l5d.http.retryableAll5XX",
        "io.l5d.http.allSuccessful",
    ],
    old: &[
        ("io.l5d.nonRetryable5XX", "write `io.l5d.http.nonRetryable5XX`"),
        ("io.l5d.retryableRead5XX", "write `io.l5d.http.retryableRead5XX`"),
        ("io.l5d.retryableIdempotent5XX", "write `io.l5d.http.retryableIdempotent5XX`"),
        ("io.l5d.h2.nonRetryable5XX", FOR_H2),
        ("io.l5d.h2.retryableRead5XX", FOR_H2),
        ("io.l5d.h2.retryableIdempotent5XX", FOR_H2),
        ("io.l5d.h2.retryableAll5XX", FOR_H2),
        ("io.l5d.h2.allSuccessful", FOR_H2),
        ("io.l5d.h2.grpc.default", GRPC),
        ("io.l5d.h2.grpc.Default", GRPC),
        ("io.l5d.h2.grpc.compliant", GRPC),
        ("io.l5d.h2.grpc.alwaysRetryable", GRPC),
        ("io.l5d.h2.grpc.neverRetryable", GRPC),
        ("io.l5d.h2.grpc.retryableStatusCodes", GRPC),
    ],
    ..NONE
};

/// Response classifiers of h2 routers (config reference §7.1, §7.2, §19.1).
pub const H2_CLASSIFIERS: Kinds = Kinds {
    noun: "a response classifier",
    built: &[
        "io.l5d.h2.nonRetryable5XX",
        "io.l5d.h2.retryableRead5XX",
        "io.l5d.h2.retryableIdempotent5XX",
        "io.l5d.h2.retryableAll5XX",
        "io.l5d.h2.allSuccessful",
        "io.l5d.h2.grpc.default",
        "io.l5d.h2.grpc.compliant",
        "io.l5d.h2.grpc.alwaysRetryable",
        "io.l5d.h2.grpc.neverRetryable",
        "io.l5d.h2.grpc.retryableStatusCodes",
    ],
    old: &[
        ("io.l5d.nonRetryable5XX", "write `io.l5d.h2.nonRetryable5XX`"),
        ("io.l5d.retryableRead5XX", "write `io.l5d.h2.retryableRead5XX`"),
        ("io.l5d.retryableIdempotent5XX", "write `io.l5d.h2.retryableIdempotent5XX`"),
        ("io.l5d.http.nonRetryable5XX", FOR_HTTP),
        ("io.l5d.http.retryableRead5XX", FOR_HTTP),
        ("io.l5d.http.retryableIdempotent5XX", FOR_HTTP),
        ("io.l5d.http.retryableAll5XX", FOR_HTTP),
        ("io.l5d.http.allSuccessful", FOR_HTTP),
        ("io.l5d.h2.grpc.Default", "write `io.l5d.h2.grpc.default`"),
    ],
    ..NONE
};

/// What the kind of an object is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Built in this release.
    Built(&'static str),
    /// Reported, and so is nothing below it.
    Refused,
    /// Reported; nothing is known about what was meant.
    Unknown,
}

impl Kinds {
    /// Reads the kind of the object of `reader`. Anything but a built one has been reported on return.
    pub fn of(&self, reader: &mut Reader<'_>) -> Found {
        if let Some(probe) = reader.context.probe {
            return probe.kind(self, &mut reader.item.path).map_or(Found::Refused, Found::Built);
        }
        if reader.take(self.key).is_none() {
            let path = super::reader::key_path(&reader.item.path, self.key);
            let bad = Bad::new(format!("required key `{}` is missing", self.key)).expected(self.expected());
            reader.context.bad(reader.pos(self.key), &path, bad);
            return Found::Unknown;
        }
        let Some(kind) = reader.need(self.key, string) else { return Found::Unknown };
        if let Some(built) = self.built.iter().find(|name| **name == kind) {
            return Found::Built(built);
        }
        let flag = reader.get("experimental", |item| Ok(boolean(item).unwrap_or(false)));
        let _ = reader.get(self.key, |_| Err::<(), Bad>(self.reject(reader.context, &kind, flag == Some(true))));
        match self.later.contains(&kind.as_str()) || self.old.iter().any(|(name, _)| *name == kind) {
            true => Found::Refused,
            false => Found::Unknown,
        }
    }

    fn reject(&self, context: &Context<'_>, kind: &str, experimental: bool) -> Bad {
        if let Some((name, hint)) = self.old.iter().find(|(name, _)| *name == kind) {
            return Bad::new(format!("`{name}` is not {} here: {hint}", self.noun));
        }
        if self.later.contains(&kind) {
            let message = format!("`{kind}` is {} of Linkerd 1 that Switchyard does not have yet", self.noun);
            let flag = match self.experimental.contains(&kind) && !experimental {
                true => "; it is experimental, and Linkerd demands `experimental: true` beside it",
                false => "",
            };
            return Bad::new(message + flag);
        }
        let all = self.built.iter().chain(self.later).copied();
        let nearest = context.nearest(kind, all.chain(self.old.iter().map(|(name, _)| *name)));
        let message = format!("unknown {} {}: not {} of Linkerd 1", self.key, quote(kind), self.noun);
        Bad::new(message).expected(self.expected()).nearest(nearest)
    }

    fn expected(&self) -> String {
        match self.built {
            [] => format!("nothing: this release has no such thing as {}", self.noun),
            built => format!("one of: {}", built.join(", ")),
        }
    }
}

/// A list of plug-ins none of which is built: each element is reported by its kind.
pub fn none_of(reader: &mut Reader<'_>, key: &'static str, kinds: &Kinds) {
    for item in reader.list(key) {
        if let Some(mut inner) = Reader::open(reader.context, item, Place::Other) {
            kinds.of(&mut inner);
        }
    }
}

//! Response classifiers: is an outcome a success, and may the request be sent again (data-plane reference §11.1, §11.7).
//!
//! Pure. A verdict falls with the head of a response ([`early`]), with its end ([`late`]), or because there is no end
//! ([`broken`]). Whether a request can be sent again at all, what has reached the client, and budgets are not looked at
//! here (`request::exchange`).

use crate::config::{Classifier, GrpcClassifier, GrpcRetry};
use crate::grpc;
use http::{HeaderMap, Method, StatusCode};

/// The status UNKNOWN: what a status that is no number stands for.
const UNKNOWN: u32 = 2;
/// The status UNAVAILABLE.
const UNAVAILABLE: u32 = 14;

/// What a classifier says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Success,
    /// It is not.
    Failure {
        /// Another attempt may do better.
        retryable: bool,
    },
}

impl Verdict {
    /// A failure that no other attempt can mend.
    pub const FINAL: Verdict = Verdict::Failure { retryable: false };

    /// True of a success.
    pub fn is_success(self) -> bool {
        self == Verdict::Success
    }

    /// True of a failure that may be retried.
    pub fn is_retryable(self) -> bool {
        self == Verdict::Failure { retryable: true }
    }
}

/// The verdict by the head of a response. None when only its end can tell, which is so for gRPC calls that have not
/// failed yet; ask [`late`] then. A stream that breaks off after its head is [`broken`] in any case.
pub fn early(classifier: Classifier, method: &Method, status: StatusCode, headers: &HeaderMap) -> Option<Verdict> {
    let Classifier::Grpc(grpc) = classifier else { return Some(by_status(classifier, method, status)) };
    let stated = grpc_status(headers).map(|code| by_code(grpc, code));
    stated.or_else(|| status_fails(status).then(|| without_code(grpc, status)))
}

/// The verdict at the end of a response that was not broken off and on which [`early`] said nothing; its trailers, if
/// it has any. For classifiers that do not look at gRPC it is that of the status.
pub fn late(classifier: Classifier, method: &Method, status: StatusCode, trailers: Option<&HeaderMap>) -> Verdict {
    let Classifier::Grpc(grpc) = classifier else { return by_status(classifier, method, status) };
    if status_fails(status) {
        return without_code(grpc, status);
    }
    trailers.and_then(grpc_status).map_or(Verdict::FINAL, |code| by_code(grpc, code))
}

/// The verdict on a request that has no response, or half of one; `refused` when the service has reset the stream with
/// REFUSED_STREAM. Whether it was an error after which a retry makes sense is the caller's business (data-plane reference
/// §11.1, the footnote).
pub fn broken(classifier: Classifier, method: &Method, refused: bool) -> Verdict {
    let retryable = match classifier {
        Classifier::Grpc(grpc) => refused && grpc.retry == GrpcRetry::Compliant,
        _ => may_retry(classifier, method),
    };
    Verdict::Failure { retryable }
}

/// The gRPC status among headers or trailers; UNKNOWN for one that is no number.
pub fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    let value = headers.get(&grpc::STATUS)?;
    let digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let code = value.to_str().ok().filter(digits).and_then(|text| text.parse().ok());
    Some(code.unwrap_or(UNKNOWN))
}

/// True when there is an outcome of which the classifier says that the request may be sent again.
pub fn ever_retries(classifier: Classifier, method: &Method) -> bool {
    match classifier {
        Classifier::Grpc(grpc) => grpc.retry != GrpcRetry::None,
        _ => may_retry(classifier, method),
    }
}

fn by_status(classifier: Classifier, method: &Method, status: StatusCode) -> Verdict {
    match is_success(classifier, status) {
        true => Verdict::Success,
        false => Verdict::Failure { retryable: may_retry(classifier, method) },
    }
}

fn by_code(grpc: GrpcClassifier, code: u32) -> Verdict {
    // A status without a bit is in no set.
    let is_in = |set: u32| set.checked_shr(code).unwrap_or(0) & 1 == 1;
    if is_in(grpc.success) {
        return Verdict::Success;
    }
    Verdict::Failure {
        retryable: match grpc.retry {
            GrpcRetry::Codes(codes) => is_in(codes),
            GrpcRetry::All => true,
            GrpcRetry::None => false,
            GrpcRetry::Compliant => code == UNAVAILABLE,
        },
    }
}

fn status_fails(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// A failure by its HTTP status alone, without a word of gRPC.
fn without_code(grpc: GrpcClassifier, status: StatusCode) -> Verdict {
    let passing = matches!(status.as_u16(), 429 | 502 | 503 | 504);
    Verdict::Failure { retryable: passing && grpc.retry == GrpcRetry::Compliant }
}

/// True when a response with this status counts as a success; of a gRPC call, as far as the status can tell.
pub fn is_success(classifier: Classifier, status: StatusCode) -> bool {
    match classifier {
        Classifier::AllSuccessful => true,
        Classifier::Grpc(_) => !status_fails(status),
        _ => status.as_u16() < 500,
    }
}

/// True when a failure of a request with this method may be retried because of the method; never of a gRPC call.
pub fn may_retry(classifier: Classifier, method: &Method) -> bool {
    let read = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    let idempotent = read || matches!(*method, Method::PUT | Method::DELETE);
    match classifier {
        Classifier::NonRetryable5xx | Classifier::AllSuccessful | Classifier::Grpc(_) => false,
        Classifier::RetryableRead5xx => read,
        Classifier::RetryableIdempotent5xx => idempotent,
        Classifier::RetryableAll5xx => idempotent || matches!(*method, Method::POST | Method::PATCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of data-plane reference §11.1.
    #[test]
    fn methods_by_classifier() {
        let retried = |classifier| {
            let methods = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "BREW"];
            let legal = methods.iter().filter_map(|name| Method::from_bytes(name.as_bytes()).ok());
            legal.filter(|method| may_retry(classifier, method)).map(|method| method.to_string()).collect::<Vec<_>>()
        };
        let read = ["GET", "HEAD", "OPTIONS", "TRACE"];
        assert!(retried(Classifier::NonRetryable5xx).is_empty());
        assert!(retried(Classifier::AllSuccessful).is_empty());
        assert_eq!(retried(Classifier::RetryableRead5xx), read);
        assert_eq!(retried(Classifier::RetryableIdempotent5xx), [&read[..], &["PUT", "DELETE"]].concat());
        assert_eq!(retried(Classifier::RetryableAll5xx), [&read[..], &["PUT", "DELETE", "POST", "PATCH"]].concat());
    }

    #[test]
    fn statuses_by_classifier() {
        for (status, plain) in [(200, true), (404, true), (500, false), (503, false)] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(is_success(Classifier::NonRetryable5xx, status), plain);
            assert!(is_success(Classifier::AllSuccessful, status));
        }
    }

    /// A classifier by its kind, as the config reads it.
    fn grpc(kind: &str, options: &str) -> Classifier {
        let text = format!(
            "routers: [{{protocol: h2, servers: [{{}}], service: {{responseClassifier: {{kind: io.l5d.h2.grpc.{kind}{options}}}}}}}]"
        );
        let config = crate::config::load("f", &text).expect("a good config");
        config.routers[0].service.for_name(&dtab::Path::empty()).classifier
    }

    fn fields(status: Option<&str>) -> HeaderMap {
        status.map(|status| (grpc::STATUS, status.parse().expect("a value"))).into_iter().collect()
    }

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).expect("a status")
    }

    /// `ok`, `retry` or `fail`.
    fn word(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Success => "ok",
            Verdict::Failure { retryable: true } => "retry",
            Verdict::Failure { retryable: false } => "fail",
        }
    }

    /// The table of data-plane reference §11.7, where it does not matter whether the status is in the head or the trailers.
    #[test]
    fn grpc_statuses_by_classifier() {
        let codes = [
            Some("0"),
            Some("1"),
            Some("4"),
            Some("8"),
            Some("13"),
            Some("14"),
            Some("16"),
            Some("99"),
            Some("x"),
            Some(""),
        ];
        for (kind, options, want) in [
            ("default", "", "ok fail fail fail fail retry fail fail fail fail"),
            ("compliant", "", "ok fail fail fail fail retry fail fail fail fail"),
            ("neverRetryable", "", "ok fail fail fail fail fail fail fail fail fail"),
            ("alwaysRetryable", "", "ok retry retry retry retry retry retry retry retry retry"),
            (
                "retryableStatusCodes",
                ", retryableStatusCodes: [4, 8, 2]",
                "ok fail retry retry fail fail fail fail retry retry",
            ),
            ("default", ", successStatusCodes: [0, 1, 14]", "ok ok fail fail fail ok fail fail fail fail"),
            (
                "alwaysRetryable",
                ", successStatusCodes: []",
                "retry retry retry retry retry retry retry retry retry retry",
            ),
        ] {
            let class = grpc(kind, options);
            let in_head =
                codes.map(|code| early(class, &Method::POST, status(200), &fields(code)).map_or("none", word));
            let at_end = codes.map(|code| word(late(class, &Method::POST, status(200), Some(&fields(code)))));
            assert_eq!((in_head.join(" ").as_str(), at_end.join(" ").as_str()), (want, want), "{kind}{options}");
        }
    }

    /// Without a gRPC status the HTTP status decides, and a stream that says nothing has failed.
    #[test]
    fn without_a_grpc_status() {
        for kind in ["default", "compliant", "neverRetryable", "alwaysRetryable"] {
            let class = grpc(kind, "");
            for code in [200, 204, 302] {
                assert_eq!(early(class, &Method::POST, status(code), &fields(None)), None, "{kind} {code}");
                for trailers in [None, Some(&fields(None))] {
                    assert_eq!(late(class, &Method::POST, status(code), trailers), Verdict::FINAL, "{kind} {code}");
                }
            }
            for code in [400, 404, 429, 500, 501, 502, 503, 504] {
                let retryable = kind == "compliant" && [429, 502, 503, 504].contains(&code);
                let want = Verdict::Failure { retryable };
                assert_eq!(early(class, &Method::POST, status(code), &fields(None)), Some(want), "{kind} {code}");
                assert_eq!(late(class, &Method::POST, status(code), Some(&fields(Some("0")))), want, "{kind} {code}");
            }
        }
    }

    /// The order of verdicts: a status of gRPC in the head comes before that of HTTP.
    #[test]
    fn a_status_in_the_head_comes_first() {
        let class = grpc("compliant", "");
        let verdict = |code, stated| early(class, &Method::POST, status(code), &fields(Some(stated))).map(word);
        assert_eq!(verdict(503, "0"), Some("ok"));
        assert_eq!(verdict(503, "3"), Some("fail"));
        assert_eq!(verdict(404, "14"), Some("retry"));
    }

    #[test]
    fn streams_that_break_off() {
        for (kind, refused) in [("default", "fail"), ("compliant", "retry"), ("alwaysRetryable", "fail")] {
            let class = grpc(kind, "");
            assert_eq!(word(broken(class, &Method::GET, true)), refused, "{kind}");
            assert_eq!(word(broken(class, &Method::GET, false)), "fail", "{kind}");
        }
        assert_eq!(word(broken(Classifier::RetryableRead5xx, &Method::GET, false)), "retry");
        assert_eq!(word(broken(Classifier::RetryableRead5xx, &Method::POST, true)), "fail");
        assert_eq!(word(broken(Classifier::AllSuccessful, &Method::GET, true)), "fail");
    }

    /// What is not gRPC is decided by the head, whatever gRPC says.
    #[test]
    fn other_classifiers_do_not_look_at_grpc() {
        for (code, method, want) in [
            (200, Method::GET, "ok"),
            (499, Method::GET, "ok"),
            (503, Method::GET, "retry"),
            (503, Method::POST, "fail"),
        ] {
            let class = Classifier::RetryableRead5xx;
            assert_eq!(early(class, &method, status(code), &fields(Some("14"))).map(word), Some(want));
            assert_eq!(word(late(class, &method, status(code), Some(&fields(Some("14"))))), want);
        }
        let all = early(Classifier::AllSuccessful, &Method::GET, status(500), &fields(None));
        assert_eq!(all, Some(Verdict::Success));
    }

    #[test]
    fn classifiers_that_may_retry() {
        let retried = |kind| ever_retries(grpc(kind, ""), &Method::POST);
        assert!(retried("default") && retried("compliant") && retried("alwaysRetryable") && !retried("neverRetryable"));
        assert!(!ever_retries(Classifier::RetryableRead5xx, &Method::POST));
    }
}

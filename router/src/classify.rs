//! Response classifiers: is an outcome a success, and may the request be sent again (data-plane reference §11.1).

use crate::config::Classifier;
use http::{Method, StatusCode};

/// True when a response with this status counts as a success.
pub fn is_success(classifier: Classifier, status: StatusCode) -> bool {
    match classifier {
        Classifier::AllSuccessful => true,
        Classifier::Grpc(_) => status.as_u16() < 400,
        _ => status.as_u16() < 500,
    }
}

/// True when a failure of a request with this method may be retried.
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
}

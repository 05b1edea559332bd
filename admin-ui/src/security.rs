//! The `admin.security` filter.
//!
//! What it is for: closing categories of paths (telemetry reference section 16, config reference section 3.1), and a token
//! for requests that change something. What it is not: knowing who asks. Called by: `server`, before routing, with the same normalised path that routing uses.

use http::{HeaderValue, Method};
use std::sync::Arc;

/// Decides whether a whole path matches; made from the regular expressions of `pathWhitelist` and `pathBlacklist`.
pub type PathMatcher = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Decides whether the value of `Authorization`, empty when there is none, may change something.
pub type TokenCheck = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What may be seen. Order: blacklist, then category or whitelist; rejection is a bare 404.
#[derive(Clone)]
pub struct Security {
    /// `uiEnabled`: paths of [`Category::Ui`].
    pub ui: bool,
    /// `controlEnabled`: paths of [`Category::Control`].
    pub control: bool,
    /// `diagnosticsEnabled`: all other paths.
    pub diagnostics: bool,
    /// `pathWhitelist`: opens paths of disabled categories.
    pub whitelist: Vec<PathMatcher>,
    /// `pathBlacklist`: closes paths, whatever else says.
    pub blacklist: Vec<PathMatcher>,
    /// Asked about every request that is not GET, HEAD or OPTIONS.
    pub token: Option<TokenCheck>,
}

/// Category of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// The dashboard and what it reads.
    Ui,
    /// What changes the process: `/admin/shutdown`, `/logging.json`, `/admin/logging`.
    Control,
    /// Everything else.
    Diagnostics,
}

impl Default for Security {
    /// Everything open.
    fn default() -> Self {
        Self { ui: true, control: true, diagnostics: true, whitelist: Vec::new(), blacklist: Vec::new(), token: None }
    }
}

impl Security {
    /// Whether `path` (decoded, no repeated slashes) may be served.
    pub fn allows(&self, path: &str) -> bool {
        let any = |matchers: &[PathMatcher]| matchers.iter().any(|matches| matches(path));
        let enabled = match Category::of(path) {
            Category::Ui => self.ui,
            Category::Control => self.control,
            Category::Diagnostics => self.diagnostics,
        };
        !any(&self.blacklist) && (enabled || any(&self.whitelist))
    }

    /// Whether a request with this method and this `Authorization` may be answered.
    pub(crate) fn trusts(&self, method: &Method, authorization: Option<&HeaderValue>) -> bool {
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let shown = authorization.map_or(&b""[..], HeaderValue::as_bytes);
        reads || self.token.as_ref().is_none_or(|check| check(shown))
    }
}

impl Category {
    /// The category of `path` (decoded, no repeated slashes).
    pub fn of(path: &str) -> Self {
        match path {
            "/admin/shutdown" | "/logging.json" | "/admin/logging" => Self::Control,
            "/"
            | "/config.json"
            | "/metrics.json"
            | "/admin/metrics.json"
            | "/admin/metrics"
            | "/delegator"
            | "/delegator.json"
            | "/logging"
            | "/help" => Self::Ui,
            _ if path.starts_with("/files/") || path.starts_with("/admin/files/") => Self::Ui,
            _ => Self::Diagnostics,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(want: &'static str) -> Vec<PathMatcher> {
        vec![Arc::new(move |path: &str| path == want)]
    }

    #[test]
    fn categories() {
        for path in ["/", "/files/x.js", "/admin/files/", "/metrics.json", "/admin/metrics", "/delegator", "/help"] {
            assert_eq!(Category::of(path), Category::Ui, "{path}");
        }
        assert_eq!(Category::of("/admin/shutdown"), Category::Control);
        assert_eq!(Category::of("/logging.json"), Category::Control);
        for path in ["/admin/ping", "/admin/metrics/prometheus", "/files", "/admin", "/services"] {
            assert_eq!(Category::of(path), Category::Diagnostics, "{path}");
        }
    }

    #[test]
    fn blacklist_then_category_or_whitelist() {
        let security = Security {
            diagnostics: false,
            whitelist: matcher("/admin/ping"),
            blacklist: matcher("/help"),
            ..Security::default()
        };
        assert!(security.allows("/") && security.allows("/admin/shutdown"));
        assert!(security.allows("/admin/ping") && !security.allows("/admin/threads"));
        assert!(!security.allows("/help"));
        let both = Security { whitelist: matcher("/x"), blacklist: matcher("/x"), ..Security::default() };
        assert!(!both.allows("/x"));
    }
}

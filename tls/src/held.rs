//! [`Held`]: a configuration made from files, kept while they change.
//!
//! For: servers and clients, which read the present value, and the watch, which calls [`Reload::observe`] with what the
//! files hold now. Not for: reading files. New content counts once it has been the same for a while, so that a file that
//! is written slowly, or a certificate without its key, is not taken for the new state. What does not load leaves the
//! old value in place.

use crate::error::TlsError;
use crate::expiry::{CertificateInfo, export};
use crate::files::{Files, Fingerprint};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Content that has not changed for so long is taken for whole.
pub(crate) const QUIET: Duration = Duration::from_millis(400);

/// What is made of files.
pub(crate) trait State: Send + Sync {
    /// The certificates in it that come from files.
    fn certificates(&self) -> &[CertificateInfo];
}

/// What the watch knows of a [`Held`].
pub(crate) trait Reload: Send + Sync {
    /// The files it is made of.
    fn paths(&self) -> &[PathBuf];

    /// Compares, and loads what is new and quiet. True when it wants to be asked again after [`QUIET`].
    fn observe(&self, files: &Files, now: Instant) -> bool;
}

type Build<T> = Box<dyn Fn(&Files) -> Result<T, TlsError> + Send + Sync>;

/// A value and how to make it anew.
pub(crate) struct Held<T> {
    /// For logs and the label `file` of metrics: the file that says best which configuration it is.
    name: String,
    paths: Vec<PathBuf>,
    build: Build<T>,
    current: ArcSwap<T>,
    seen: Mutex<Seen>,
}

struct Seen {
    /// What was loaded last, or could not be.
    tried: Fingerprint,
    /// What is there instead, and since when.
    pending: Option<(Fingerprint, Instant)>,
}

impl<T> Drop for Held<T> {
    /// What nobody uses fails nobody.
    fn drop(&mut self) {
        metrics::gauge!("tls_reload_failing", "file" => self.name.clone()).set(0.0);
    }
}

impl<T: State> Held<T> {
    /// Reads the files and builds the first value. Blocks.
    pub(crate) fn new(
        name: String,
        paths: Vec<PathBuf>,
        build: impl Fn(&Files) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Held<T>, TlsError> {
        let files = Files::read(&paths);
        let first = build(&files)?;
        export(first.certificates());
        warn_of_expiry(first.certificates());
        metrics::gauge!("tls_reload_failing", "file" => name.clone()).set(0.0);
        let seen = Mutex::new(Seen { tried: files.fingerprint(&paths), pending: None });
        Ok(Held { name, paths, build: Box::new(build), current: ArcSwap::from_pointee(first), seen })
    }

    /// The present value.
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<T>> {
        self.current.load()
    }

    fn reload(&self, files: &Files) {
        let outcome = (self.build)(files);
        let (result, failing) = if outcome.is_ok() { ("ok", 0.0) } else { ("failed", 1.0) };
        metrics::counter!("tls_reload_total", "result" => result).increment(1);
        metrics::gauge!("tls_reload_failing", "file" => self.name.clone()).set(failing);
        match outcome {
            Ok(value) => {
                export(value.certificates());
                tracing::info!(file = self.name, "TLS files changed and are in use");
                warn_of_expiry(value.certificates());
                self.current.store(Arc::new(value));
            }
            Err(error) => {
                tracing::error!(file = self.name, %error, "TLS files changed and cannot be used; the old ones stay");
            }
        }
    }
}

impl<T: State> Reload for Held<T> {
    fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    fn observe(&self, files: &Files, now: Instant) -> bool {
        let print = files.fingerprint(&self.paths);
        let mut seen = self.seen.lock();
        if print == seen.tried {
            seen.pending = None;
            return false;
        }
        match &seen.pending {
            Some((pending, since)) if *pending == print => {
                if now.duration_since(*since) < QUIET {
                    return true;
                }
            }
            _ => {
                seen.pending = Some((print, now));
                return true;
            }
        }
        seen.tried = print;
        seen.pending = None;
        drop(seen);
        self.reload(files);
        false
    }
}

fn warn_of_expiry(infos: &[CertificateInfo]) {
    let now = SystemTime::now();
    infos.iter().filter_map(|info| info.warning(now)).for_each(|warning| tracing::warn!("{warning}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Part;

    struct Text(String);

    impl State for Text {
        fn certificates(&self) -> &[CertificateInfo] {
            &[]
        }
    }

    fn build(paths: &[PathBuf]) -> impl Fn(&Files) -> Result<Text, TlsError> + use<> {
        let path = paths[0].clone();
        move |files| match files.bytes(&path) {
            Ok(b"bad") => Err(TlsError::new(Part::Key, "bad")),
            Ok(bytes) => Ok(Text(String::from_utf8_lossy(bytes).into_owned())),
            Err(why) => Err(TlsError::new(Part::Key, why)),
        }
    }

    /// T1: content counts when it is quiet, what does not load leaves the old value, and each content is tried once.
    #[test]
    fn quiet_content_is_loaded_once_and_bad_content_never() {
        let folder = tempfile::tempdir().unwrap();
        let paths = vec![folder.path().join("a")];
        let write = |text: &str| std::fs::write(&paths[0], text).unwrap();
        write("one");
        let held = Held::new("a".to_owned(), paths.clone(), build(&paths)).unwrap();
        let start = Instant::now();
        let at = |ms: u64| held.observe(&Files::read(&paths), start + Duration::from_millis(ms));
        assert!(!at(0), "nothing has changed");
        write("tw");
        assert!(at(100));
        write("two");
        assert!(at(450), "it changed again, so the time of quiet starts anew");
        assert!(at(800));
        assert_eq!(held.load().0, "one");
        assert!(!at(850));
        assert_eq!(held.load().0, "two");
        write("bad");
        assert!(at(1000) && !at(1400));
        assert_eq!(held.load().0, "two");
        assert!(!at(1500), "known to be bad");
        std::fs::remove_file(&paths[0]).unwrap();
        assert!(at(2000) && !at(2400));
        assert_eq!(held.load().0, "two");
        write("two");
        assert!(at(3000) && !at(3400));
        assert_eq!(held.load().0, "two");
    }
}

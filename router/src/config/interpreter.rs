//! `interpreter` of a router (config reference §9).
//!
//! For: the reader of routers. Not for: building one, or connecting to anything.

use super::admin::token_file;
use super::kinds::{Found, INTERPRETERS};
use super::moved::Place;
use super::problem::quote;
use super::reader::{Bad, Context, Item, Reader};
use super::scalar::{count, path, size, string};
use super::tls::{PeerTls, client_tls, namerd_tls};
use super::transformer::{TransformerKind, TransformerParams, transformers};
use dtab::{Dtab, Path};
use namers::DtabFile;
use std::path::PathBuf;
use std::time::Duration;

/// Linkerd waits for 1 s or 5 s and then up to 10 minutes: a namerd that is back would be noticed late.
const MIN_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// A ping is due this often, and its answer within the second time.
const PING: Duration = Duration::from_secs(5);
const PONG_THRIFT: Duration = Duration::from_secs(4);
const PONG_MESH: Duration = Duration::from_secs(6);
const WINDOW_KB: usize = 10 * 1024;

/// How the names of a router are bound.
#[derive(Debug, Clone, Default)]
pub struct InterpreterParams {
    /// By what.
    pub kind: InterpreterKind,
    /// Applied in this order to what is bound. Default none.
    pub transformers: Vec<TransformerParams>,
}

/// A kind of interpreter.
#[derive(Debug, Clone, Default)]
pub enum InterpreterKind {
    /// `default`: the router's dtab and the namers of the config.
    #[default]
    Local,
    /// `io.l5d.fs`: as `default`, with the dtab of this file below the router's.
    File(PathBuf),
    /// A namerd.
    Namerd(Box<NamerdParams>),
}

/// A namerd, and how it is asked.
#[derive(Debug, Clone)]
pub struct NamerdParams {
    /// By what protocol.
    pub protocol: NamerdProtocol,
    /// The name of its addresses, e.g. `/$/inet/namerd.example/4100`.
    pub dst: Path,
    /// Whose dtab counts.
    pub namespace: String,
    /// First back-off after a failure. Default 250 ms.
    pub min_backoff: Duration,
    /// Largest back-off. Default 5 s.
    pub max_backoff: Duration,
    /// TLS. Default plain text.
    pub tls: Option<PeerTls>,
    /// A file with a token to show, for `io.l5d.namerd.http` and `io.l5d.mesh`. Default none.
    pub token_file: Option<PathBuf>,
    /// How often a connection is tried. Default 5 s.
    pub ping: Duration,
    /// How long its answer may take. Default 4 s, for mesh 6 s.
    pub pong: Duration,
}

impl InterpreterParams {
    /// True when no configured namer has a part in any name: all are found by namerd, and no transformer names another.
    pub fn is_apart(&self) -> bool {
        let replaces = |transformer: &TransformerParams| matches!(transformer.kind, TransformerKind::Replace(..));
        matches!(&self.kind, InterpreterKind::Namerd(params) if params.is_system())
            && !self.transformers.iter().any(replaces)
    }
}

impl NamerdParams {
    /// True when its addresses are found without the configured namers, all of whose prefixes begin with `/#`.
    pub fn is_system(&self) -> bool {
        self.dst.text(0) == Some("$") && !self.dst.labels().any(|label| label == b"#")
    }
}

/// A protocol of namerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamerdProtocol {
    /// `io.l5d.namerd`: ThriftMux.
    Thrift,
    /// `io.l5d.namerd.http`: streams of JSON.
    Http,
    /// `io.l5d.mesh`: gRPC, with the window of a stream in bytes.
    Mesh {
        /// `initialStreamWindowSizeKB`. Default 10 MiB.
        window: u32,
    },
}

impl NamerdProtocol {
    /// The kind as configs have it.
    pub fn kind(self) -> &'static str {
        match self {
            NamerdProtocol::Thrift => "io.l5d.namerd",
            NamerdProtocol::Http => "io.l5d.namerd.http",
            NamerdProtocol::Mesh { .. } => "io.l5d.mesh",
        }
    }
}

/// The interpreter; the default one when the key is absent. What is in `state_dir` may stand in for a broken file.
pub(super) fn interpreter(router: &mut Reader<'_>, state_dir: Option<&std::path::Path>) -> InterpreterParams {
    let Some(mut reader) = router.sub("interpreter", Place::Other) else { return InterpreterParams::default() };
    let Found::Built(kind) = INTERPRETERS.of(&mut reader) else { return InterpreterParams::default() };
    reader.get("experimental", string);
    let kind = match kind {
        "io.l5d.fs" => {
            let context = reader.context;
            let read = |item: &Item<'_>| file(item).or_else(|bad| broken(context, item, bad, state_dir));
            reader.need("dtabFile", read).map(InterpreterKind::File)
        }
        "io.l5d.namerd" => thrift(&mut reader),
        "io.l5d.namerd.http" => http(&mut reader),
        "io.l5d.mesh" => mesh(&mut reader),
        _ => Some(InterpreterKind::Local),
    };
    let params = InterpreterParams { kind: kind.unwrap_or_default(), transformers: transformers(&mut reader) };
    reader.finish();
    params
}

fn thrift(reader: &mut Reader<'_>) -> Option<InterpreterKind> {
    let tls = namerd_tls(reader);
    let namespace = reader.get("namespace", namespace);
    let (ping, pong) = failure_threshold(reader, PONG_THRIFT);
    namerd(reader, NamerdProtocol::Thrift, namespace, (tls, None), (ping, pong))
}

fn http(reader: &mut Reader<'_>) -> Option<InterpreterKind> {
    let tls = client_tls(reader, None).and_then(|setting| setting.on());
    let namespace = reader.get("namespace", namespace);
    let token_file = reader.get("tokenFile", token_file);
    namerd(reader, NamerdProtocol::Http, namespace, (tls, token_file), (PING, PONG_THRIFT))
}

fn mesh(reader: &mut Reader<'_>) -> Option<InterpreterKind> {
    let tls = client_tls(reader, None).and_then(|setting| setting.on());
    let root = reader.get("root", root);
    let (ping, pong) = failure_threshold(reader, PONG_MESH);
    let window = reader.get("initialStreamWindowSizeKB", size(1)).unwrap_or(WINDOW_KB);
    let window = u32::try_from(window.saturating_mul(1024)).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs());
    let token_file = reader.get("tokenFile", token_file);
    namerd(reader, NamerdProtocol::Mesh { window }, root, (tls, token_file), (ping, pong))
}

fn namerd(
    reader: &mut Reader<'_>,
    protocol: NamerdProtocol,
    namespace: Option<String>,
    (tls, token_file): (Option<PeerTls>, Option<PathBuf>),
    (ping, pong): (Duration, Duration),
) -> Option<InterpreterKind> {
    let dst = reader.need("dst", path);
    let (min_backoff, max_backoff) = retry(reader).unwrap_or((MIN_BACKOFF, MAX_BACKOFF));
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let params = NamerdParams { protocol, dst: dst?, namespace, min_backoff, max_backoff, tls, token_file, ping, pong };
    Some(InterpreterKind::Namerd(Box::new(params)))
}

/// `retry`: both members, in seconds.
fn retry(parent: &mut Reader<'_>) -> Option<(Duration, Duration)> {
    let mut reader = parent.sub("retry", Place::Other)?;
    let base = reader.need("baseSeconds", count(1));
    let max = reader.need("maxSeconds", count(1));
    if let (Some(base), Some(max)) = (base, max)
        && base > max
    {
        reader.refuse("baseSeconds", format!("illegal retry values: baseSeconds={base} maxSeconds={max}"));
    }
    reader.finish();
    Some((Duration::from_secs(base?.into()), Duration::from_secs(max?.into())))
}

/// `failureThreshold`: when a connection is tried and given up.
fn failure_threshold(parent: &mut Reader<'_>, pong: Duration) -> (Duration, Duration) {
    let Some(mut reader) = parent.sub("failureThreshold", Place::Other) else { return (PING, pong) };
    let millis = |count: u32| Duration::from_millis(count.into());
    let times = (
        reader.get("minPeriodMs", count(1)).map_or(PING, millis),
        reader.get("closeTimeoutMs", count(1)).map_or(pong, millis),
    );
    reader.finish();
    times
}

fn namespace(item: &Item<'_>) -> Result<String, Bad> {
    let text = string(item)?;
    if text.is_empty() || text.contains(['/', '?', '#', '%']) || text.chars().any(char::is_control) {
        return Err(Bad::new(format!("{} is not the name of a namespace", quote(&text))).expected("e.g. default"));
    }
    Ok(text)
}

/// A path of one label.
fn root(item: &Item<'_>) -> Result<String, Bad> {
    let root = path(item)?;
    match root.text(0) {
        Some(label) if root.len() == 1 => Ok(label.to_owned()),
        _ => Err(Bad::new(format!("`{root}` must have exactly one segment")).expected("e.g. /default")),
    }
}

/// A file that exists and is a dtab. Linkerd finds the second out when it binds.
fn file(item: &Item<'_>) -> Result<PathBuf, Bad> {
    let text = string(item)?;
    let bad = |reason: &str| Bad::new(format!("{} {reason}", quote(&text))).expected("an existing file with a dtab");
    let dtab = match std::fs::metadata(&text) {
        Ok(found) if found.is_file() => std::fs::read_to_string(&text),
        Ok(_) => return Err(bad("is not a file")),
        Err(error) => Err(error),
    };
    let dtab = dtab.map_err(|error| bad(&format!("cannot be read: {error}")))?;
    Dtab::parse(&dtab).map_err(|error| bad(&format!("is not a dtab: {error}")))?;
    Ok(PathBuf::from(&text))
}

/// A file that is no dtab now, and was one before: the last good one serves meanwhile.
fn broken(
    context: &Context<'_>,
    item: &Item<'_>,
    bad: Bad,
    state_dir: Option<&std::path::Path>,
) -> Result<PathBuf, Bad> {
    let path = PathBuf::from(string(item)?);
    match state_dir.and_then(|folder| DtabFile::known_in(folder, &path)) {
        None => Err(bad),
        Some(age) => {
            let seconds = age.as_secs();
            let meanwhile = format!("the dtab of {seconds} s ago, in `stateDir`, serves until it is one");
            context.warn(item, format!("{}; {meanwhile}", bad.message));
            Ok(path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use namers::Replaces;

    fn namerd(dst: &str) -> InterpreterParams {
        let params = NamerdParams {
            protocol: NamerdProtocol::Thrift,
            dst: Path::parse(dst).expect("a path"),
            namespace: "default".into(),
            min_backoff: MIN_BACKOFF,
            max_backoff: MAX_BACKOFF,
            tls: None,
            token_file: None,
            ping: PING,
            pong: PONG_THRIFT,
        };
        InterpreterParams { kind: InterpreterKind::Namerd(Box::new(params)), transformers: Vec::new() }
    }

    #[test]
    fn a_namerd_by_a_system_name_has_nothing_to_do_with_configured_namers() {
        assert!(namerd("/$/inet/namerd.example/4100").is_apart());
        assert!(!namerd("/#/io.l5d.fs/namerd").is_apart());
        assert!(!namerd("/$/io.buoyant.hostportPfx/#/io.l5d.fs/namerd:4100").is_apart());
        assert!(!InterpreterParams::default().is_apart());
        let behind = |kind| InterpreterParams {
            transformers: vec![TransformerParams { prefix: Path::empty(), kind }],
            ..namerd("/$/inet/namerd.example/4100")
        };
        assert!(behind(TransformerKind::Port(80)).is_apart());
        assert!(!behind(TransformerKind::Replace(Path::empty(), Replaces::Tree)).is_apart());
    }
}

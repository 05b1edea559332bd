//! The file source of the file-system namer: the lines of one address file, over time, and their format.
//!
//! Not for: which files exist (see `fs_list`) or resolving the host names in them (see `fs`).

use crate::folders::FolderEvents;
use crate::fs_list::{Looks, POLL, POLL_ABSENT, Rel, SETTLE, gone};
use crate::host::Host;
use crate::watch::{Source, SourceError, Watched};
use dtab::BoxFuture;
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A larger file is an error (naming reference §6.1).
const MAX_BYTES: u64 = 500 * 1024;
/// A file changed this recently may still be written to.
const FRESH: Duration = Duration::from_millis(20);
/// A file whose identity, length and time stand still, and whose time is older than this, is not read again by a poll:
/// time stamps are coarse, so two changes may share one.
const STILL: Duration = Duration::from_secs(2);
/// Looks at a file that lost its content before that is believed; [`SETTLE`] apart.
const EMPTY_LOOKS: u32 = 4;
/// Bytes of a malformed line that are shown.
const SHOWN: usize = 200;

/// One line of an address file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// Finite, not negative; 1.0 when not written.
    pub(crate) weight: f64,
}

impl Line {
    fn is_sound(&self) -> bool {
        self.port > 0 && self.weight.is_finite() && self.weight >= 0.0
    }
}

/// The well-formed lines of a file.
pub(crate) type Lines = Arc<[Line]>;

/// What a file says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Content {
    pub(crate) lines: Lines,
    /// What is wrong with the other lines.
    pub(crate) problem: Option<String>,
}

/// Reads the format of naming reference §6.1: `host port` or `host port * weight`, `#` comments, blank lines. Unlike
/// Linkerd, a malformed line does not spoil the others.
pub(crate) fn parse(bytes: &[u8]) -> Content {
    let (mut lines, mut bad, mut first_bad) = (Vec::new(), 0_usize, None);
    for (index, raw) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let text = String::from_utf8_lossy(raw);
        let code = text.split('#').next().unwrap_or_default().trim();
        if code.is_empty() {
            continue;
        }
        match line(code) {
            Some(line) => lines.push(line),
            None => {
                bad += 1;
                first_bad.get_or_insert_with(|| (index + 1, code.chars().take(SHOWN).collect::<String>()));
            }
        }
    }
    let problem = first_bad.map(|(number, text)| match bad {
        1 => format!("malformed address: {text} (line {number})"),
        _ => format!("malformed address: {text} (line {number}); {} more malformed lines", bad - 1),
    });
    Content { lines: lines.into(), problem }
}

fn line(code: &str) -> Option<Line> {
    let words: Vec<&str> = code.split_whitespace().collect();
    let (host, port, weight) = match words.as_slice() {
        [host, port] => (host, port, 1.0),
        [host, port, "*", weight] => (host, port, weight.parse::<f64>().ok()?),
        _ => return None,
    };
    let port = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse::<u16>().ok()).flatten()?;
    (!host.contains('\u{fffd}')).then_some(())?;
    let line = Line { host: Host::parse(host)?, port, weight };
    line.is_sound().then_some(line)
}

/// Watches files below `root`.
pub(crate) struct FileSource {
    pub(crate) root: PathBuf,
    pub(crate) events: Arc<FolderEvents>,
    pub(crate) looks: Looks,
}

impl FileSource {
    fn reader(&self, key: &Rel) -> Reader {
        let path = key.under(&self.root);
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        Reader { path, folder, events: self.events.clone(), looks: self.looks.clone(), known: None }
    }
}

/// A file as its readers see it; None when it is certainly gone.
pub(crate) type File = Option<Lines>;

impl Source<Rel, File> for FileSource {
    fn run(&self, key: Rel, out: Watched<File>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(watch(self.reader(&key), out))
    }

    fn relist(&self, key: Rel) -> Option<BoxFuture<'static, Result<File, SourceError>>> {
        let reader = self.reader(&key);
        Some(Box::pin(async move {
            let content = reader.look(None).await?.map_err(SourceError)?.map(|known| known.content);
            match content {
                Some(Content { lines, problem: Some(problem) }) if lines.is_empty() => Err(SourceError(problem)),
                content => Ok(content.map(|content| content.lines)),
            }
        }))
    }

    fn is_empty(&self, value: &File) -> bool {
        value.as_ref().is_none_or(|lines| lines.is_empty())
    }

    fn save(&self, value: &File) -> Option<Value> {
        let lines = value.as_ref()?.iter().map(|line| json!([line.host.to_string(), line.port, line.weight]));
        Some(lines.collect())
    }

    fn restore(&self, saved: &Value) -> Option<File> {
        let line = |saved: &Value| {
            let [host, port, weight] = saved.as_array()?.as_slice() else { return None };
            let line = Line {
                host: Host::parse(host.as_str()?)?,
                port: u16::try_from(port.as_u64()?).ok()?,
                weight: weight.as_f64()?,
            };
            line.is_sound().then_some(line)
        };
        let lines: Option<Vec<Line>> = saved.as_array()?.iter().map(line).collect();
        Some(Some(lines?.into()))
    }
}

async fn watch(mut reader: Reader, out: Watched<File>) -> Result<(), SourceError> {
    let mut changes = reader.events.watch(reader.folder.clone());
    let mut event = true;
    loop {
        let seen = reader.settled(event).await?;
        let poll = if matches!(seen, Ok(Some(_))) { POLL } else { POLL_ABSENT };
        match seen {
            Ok(None) => out.ok(None),
            Ok(Some(Content { lines, problem: None })) => out.ok(Some(lines)),
            Ok(Some(Content { lines, problem: Some(problem) })) if lines.is_empty() => out.failed(&problem),
            Ok(Some(Content { lines, problem: Some(problem) })) => out.ok_but(Some(lines), &problem),
            Err(reason) => out.failed(&reason),
        }
        event = changes.changed(poll).await;
    }
}

/// What a file was at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    /// Time since the last change; zero when that is in the future.
    fn age(&self) -> Duration {
        self.modified.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default()
    }
}

#[derive(Clone)]
struct Known {
    stamp: Stamp,
    hash: u64,
    content: Content,
}

struct Reader {
    path: PathBuf,
    folder: PathBuf,
    events: Arc<FolderEvents>,
    looks: Looks,
    known: Option<Known>,
}

impl Reader {
    /// What the file says, once it stands still: a file that was just changed is looked at again, one that has become
    /// empty several times. None when it is gone.
    async fn settled(&mut self, event: bool) -> Result<Result<Option<Content>, String>, SourceError> {
        let known = self.known.take();
        let mut seen = self.look(if event { None } else { known.clone() }).await?;
        for attempt in 0..EMPTY_LOOKS {
            let again = match (&seen, &known) {
                (Ok(Some(seen)), Some(known)) if seen.hash == known.hash => false,
                (Ok(Some(seen)), Some(known)) if seen.stamp.length == 0 && !known.content.lines.is_empty() => true,
                (Ok(Some(seen)), _) => attempt == 0 && seen.stamp.age() < FRESH,
                _ => false,
            };
            if !again {
                break;
            }
            tokio::time::sleep(SETTLE).await;
            seen = self.look(None).await?;
        }
        Ok(seen.map(|seen| {
            self.known = seen;
            self.known.as_ref().map(|known| known.content.clone())
        }))
    }

    async fn look(&self, known: Option<Known>) -> Result<Result<Option<Known>, String>, SourceError> {
        let (path, folder, events) = (self.path.clone(), self.folder.clone(), self.events.clone());
        let look = move || {
            events.arm(&folder);
            match read(&path, known) {
                Ok(seen) => Ok(Some(seen)),
                Err(_) if gone(&path) => Ok(None),
                Err(reason) => Err(reason),
            }
        };
        self.looks.blocking(look).await
    }
}

/// Reads the file, unless it stands still at `known`.
fn read(path: &Path, known: Option<Known>) -> Result<Known, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let meta = std::fs::metadata(path).map_err(failed)?;
    if !meta.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let stamp = Stamp { inode: meta.ino(), length: meta.len(), modified: meta.modified().ok() };
    if let Some(known) = known
        && known.stamp == stamp
        && stamp.age() > STILL
    {
        return Ok(known);
    }
    let too_large = || format!("{} is larger than {} KB", path.display(), MAX_BYTES / 1024);
    if meta.len() > MAX_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_large());
    }
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let stamp = Stamp { length: bytes.len() as u64, ..stamp };
    Ok(Known { stamp, hash: hasher.finish(), content: parse(&bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Vec<(String, u16, f64)>, Option<String>) {
        let content = parse(text.as_bytes());
        let shown = |line: &Line| (line.host.to_string(), line.port, line.weight);
        (content.lines.iter().map(shown).collect(), content.problem)
    }

    #[test]
    fn addresses_weights_comments_and_blank_lines() {
        let (lines, problem) = parsed("# all\n\n10.0.0.1 80\r\n\tweb  8080 * 2.5 # big\n::1 65535\n   \n127.1 1*");
        let expected =
            [("10.0.0.1".to_owned(), 80, 1.0), ("web".to_owned(), 8080, 2.5), ("::1".to_owned(), 65535, 1.0)];
        assert_eq!(lines, expected);
        assert_eq!(problem.as_deref(), Some("malformed address: 127.1 1* (line 7)"));
    }

    #[test]
    fn malformed_lines_are_counted_and_the_first_is_shown() {
        for bad in [
            "web",
            "web 0",
            "web 65536",
            "web http",
            "web +80",
            "web 80 * x",
            "web 80 * -1",
            "web 80 * inf",
            "web 80 * NaN",
            "web 80 2",
            "a:b 80",
            "web 80 * 1 2",
            "* 80 *",
        ] {
            let (lines, problem) = parsed(&format!("10.0.0.1 80\n{bad}\nnope\n"));
            assert_eq!(lines.len(), 1, "{bad}");
            let expected = format!("malformed address: {bad} (line 2); 1 more malformed lines");
            assert_eq!(problem, Some(expected));
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        let content = parse(b"\xff\xfe 80\n10.0.0.1 80\n\0\0\n");
        assert_eq!(content.lines.len(), 1);
        let long = parse("x".repeat(100_000).as_bytes()).problem.unwrap();
        assert!(long.len() < 300);
    }
}

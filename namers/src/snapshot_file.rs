//! The file of the snapshot: its format, and how it is written so that a reader finds all of it or none.
//!
//! One JSON object per line. The first line says version, number of entries, time and check sum; the others are the
//! entries. Written beside, flushed to the disk, renamed over: whoever is killed meanwhile leaves the file before or the
//! file after, never a torn one (attacks M4). Called by `snapshot`. Not for: what is remembered, or when.

use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The name of the file in the state folder.
pub(crate) const FILE: &str = "names.jsonl";
const VERSION: u64 = 1;
/// A larger file is not read, and none is written.
pub(crate) const MAX_BYTES: usize = 64 * 1024 * 1024;

/// One entry as it is in the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) table: String,
    pub(crate) key: String,
    /// When the value was last seen to be true; milliseconds since the epoch.
    pub(crate) seen: u64,
    /// When it was last wanted; milliseconds since the epoch.
    pub(crate) used: u64,
    pub(crate) value: Value,
}

/// FNV-1a: finds torn and mangled files; not meant against forgery.
fn check_sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The text of a file with these records.
pub(crate) fn encode<'a>(records: impl Iterator<Item = &'a Record>, written: u64) -> Vec<u8> {
    let (mut body, mut entries) = (Vec::new(), 0_u64);
    for record in records {
        let Record { table, key, seen, used, value } = record;
        let line = json!({ "table": table, "key": key, "seen": seen, "used": used, "value": value }).to_string();
        if body.len() + line.len() + 1024 > MAX_BYTES {
            break;
        }
        entries += 1;
        body.extend_from_slice(line.as_bytes());
        body.push(b'\n');
    }
    let sum = format!("{:016x}", check_sum(&body));
    let head = json!({ "switchyard_names": VERSION, "entries": entries, "written": written, "check_sum": sum });
    let mut text = head.to_string().into_bytes();
    text.push(b'\n');
    text.extend_from_slice(&body);
    text
}

/// The records of a file, and when it was written. Errors with what is wrong with it.
pub(crate) fn decode(text: &[u8]) -> Result<(Vec<Record>, u64), String> {
    let end = text.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
    let (head, body) = (&text[..end], &text[end + 1..]);
    let head: Value = serde_json::from_slice(head).map_err(|error| format!("its first line is no JSON: {error}"))?;
    match head["switchyard_names"].as_u64() {
        Some(VERSION) => {}
        Some(other) => return Err(format!("it has version {other}, and this release reads version {VERSION}")),
        None => return Err("it is not a file of Switchyard".to_owned()),
    }
    let sum = format!("{:016x}", check_sum(body));
    if head["check_sum"].as_str() != Some(sum.as_str()) {
        return Err("its check sum is wrong: it was cut or changed".to_owned());
    }
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let records: Option<Vec<Record>> = lines.map(record).collect();
    let records = records.ok_or("it has a line that is no entry")?;
    Ok((records, head["written"].as_u64().unwrap_or_default()))
}

fn record(line: &[u8]) -> Option<Record> {
    let mut line: Value = serde_json::from_slice(line).ok()?;
    Some(Record {
        table: line["table"].as_str()?.to_owned(),
        key: line["key"].as_str()?.to_owned(),
        seen: line["seen"].as_u64()?,
        used: line["used"].as_u64()?,
        value: line["value"].take(),
    })
}

/// Reads the file of a folder; None when there is none. Errors with what is wrong.
pub(crate) fn read(folder: &Path) -> Result<Option<(Vec<Record>, u64)>, String> {
    let path = folder.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let mut text = Vec::new();
    let read = file.take(MAX_BYTES as u64 + 1).read_to_end(&mut text);
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if text.len() > MAX_BYTES {
        return Err(format!("{} is larger than {} MB", path.display(), MAX_BYTES / 1024 / 1024));
    }
    decode(&text).map(Some).map_err(|reason| format!("{} is not usable: {reason}", path.display()))
}

/// Puts a file that is not usable aside, for whoever wants to see it.
pub(crate) fn set_aside(folder: &Path) {
    let path = folder.join(FILE);
    if let Err(error) = std::fs::rename(&path, path.with_extension("bad")) {
        tracing::warn!("cannot put {} aside: {error}", path.display());
    }
}

/// Replaces the file of a folder, which is made when it is missing. Blocks until the disk has it.
pub(crate) fn write(folder: &Path, text: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(FILE);
    let beside: PathBuf = path.with_extension("tmp");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let outcome = fill(&beside, text).and_then(|()| std::fs::rename(&beside, &path));
    if outcome.is_err() {
        // A disk that is full has room again; the first error is the one to tell.
        let _ = std::fs::remove_file(&beside);
        return outcome;
    }
    File::open(folder)?.sync_all()
}

/// Names and addresses are nobody else's business.
fn fill(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// Claims the folder for this process until the file is closed; None while another process has it.
pub(crate) fn claim(folder: &Path) -> io::Result<Option<File>> {
    std::fs::create_dir_all(folder)?;
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(n: u64) -> Vec<Record> {
        let record = |i| Record {
            table: "dns".to_owned(),
            key: format!("web-{i}\n\"x\""),
            seen: i,
            used: i,
            value: json!(["10.0.0.1", i]),
        };
        (0..n).map(record).collect()
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made/on/the/way");
        assert_eq!(read(&folder), Ok(None));
        for n in [3, 0, 100] {
            write(&folder, &encode(records(n).iter(), 7)).unwrap();
            assert_eq!(read(&folder), Ok(Some((records(n), 7))));
        }
    }

    #[test]
    fn a_torn_mangled_or_foreign_file_is_refused() {
        let text = encode(records(5).iter(), 7);
        for cut in 0..text.len() {
            assert!(decode(&text[..cut]).is_err(), "cut at {cut}");
        }
        for at in (0..text.len()).step_by(3) {
            let mut mangled = text.clone();
            mangled[at] ^= 1;
            // A changed time of the head harms nobody; everything else is found.
            assert!(decode(&mangled).is_err() || decode(&mangled).is_ok_and(|(read, _)| read == records(5)), "{at}");
        }
        for foreign in ["", "\n", "{}\n", "[]\n", "{\"switchyard_names\":2}\n", "no json\n"] {
            assert!(decode(foreign.as_bytes()).is_err(), "{foreign}");
        }
    }

    #[test]
    fn a_write_that_fails_leaves_the_file_before() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &encode(records(2).iter(), 7)).unwrap();
        let beside = folder.path().join(FILE).with_extension("tmp");
        std::fs::create_dir(&beside).unwrap();
        assert!(write(folder.path(), &encode(records(9).iter(), 8)).is_err());
        assert_eq!(read(folder.path()), Ok(Some((records(2), 7))));
        std::fs::remove_dir(&beside).unwrap();
        std::fs::write(&beside, "left by a process that was killed").unwrap();
        write(folder.path(), &encode(records(9).iter(), 8)).unwrap();
        assert_eq!(read(folder.path()), Ok(Some((records(9), 8))));
    }

    #[test]
    fn one_process_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = claim(folder.path()).unwrap();
        assert!(first.is_some() && claim(folder.path()).unwrap().is_none());
        drop(first);
        assert!(claim(folder.path()).unwrap().is_some());
    }
}

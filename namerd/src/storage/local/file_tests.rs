//! The file of the local store: what is no store, is damaged or belongs to another is refused, and never taken for an empty one.

use super::*;
use crate::storage::Note;
use crate::storage::local::RETENTION;
use crate::storage::write::{Condition, Write as Stored};
use dtab::Dtab;
use std::collections::BTreeMap;
use tempfile::TempDir;

/// A folder whose store has these many namespaces, each written twice, and is closed.
fn filled(namespaces: usize) -> (TempDir, BTreeMap<String, VersionedDtab>) {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::lock(folder.path().to_owned()).unwrap();
    file.open().unwrap();
    for round in 0..2 {
        for n in 0..namespaces {
            let dtab = Dtab::parse(&format!("/svc/{n} => /round/{round}")).unwrap();
            let write = Stored::store(&format!("ns-{n}"), Condition::Any, dtab, Note::default());
            file.with(|database| tables::write(database, std::slice::from_ref(&write), &RETENTION)).unwrap();
        }
    }
    file.close();
    let dtabs = file.open().unwrap();
    assert_eq!(dtabs.len(), namespaces);
    (folder, dtabs)
}

fn open(folder: &TempDir) -> Result<BTreeMap<String, VersionedDtab>, LocalError> {
    File::lock(folder.path().to_owned())?.open()
}

fn damaged(folder: &TempDir) -> String {
    match open(folder) {
        Err(error @ LocalError::Damaged { .. }) => error.to_string(),
        other => unreachable!("must be damaged: {other:?}"),
    }
}

#[test]
fn what_is_no_store_is_never_taken_for_an_empty_one() {
    let (folder, _) = filled(3);
    let path = folder.path().join("dtabs.redb");
    let whole = fs::read(&path).unwrap();
    let contents: [&[u8]; 6] =
        [b"", b"dtabs", &[0; 1_000_000], &[0xff; 4096], &whole[..whole.len() / 2], &whole[whole.len() / 2..]];
    for content in contents {
        fs::write(&path, content).unwrap();
        let text = damaged(&folder);
        assert!(text.contains("dtabs.redb") && text.contains("backup"), "{text}");
        assert_eq!(fs::read(&path).unwrap().len(), content.len(), "the file is left as it is");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(open(&folder), Err(LocalError::Io { .. })));
}

#[test]
fn a_flipped_bit_is_noticed_or_does_not_matter() {
    let (folder, dtabs) = filled(40);
    let path = folder.path().join("dtabs.redb");
    let whole = fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    let mut noticed = 0;
    for _ in 0..300 {
        let mut changed = whole.clone();
        // Half of them at the start, where more is in use.
        let end = if random.bool() { 64 << 10 } else { whole.len() };
        let at = random.usize(..end);
        changed[at] ^= 1 << random.u8(..8);
        fs::write(&path, &changed).unwrap();
        match open(&folder) {
            Ok(found) => assert!(found == dtabs, "bit flipped in byte {at}"),
            Err(LocalError::Damaged { .. } | LocalError::Format { .. }) => noticed += 1,
            Err(other) => unreachable!("byte {at}: {other}"),
        }
    }
    assert!(noticed > 10, "{noticed}");
}

#[test]
fn what_a_process_left_while_it_made_the_file_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("dtabs.redb.new"), "half of a file").unwrap();
    assert_eq!(open(&folder).unwrap(), BTreeMap::new());
    assert!(!folder.path().join("dtabs.redb.new").exists());
}

#[test]
fn another_database_is_no_store() {
    let folder = tempfile::tempdir().unwrap();
    Database::create(folder.path().join("dtabs.redb")).unwrap();
    let text = damaged(&folder);
    assert!(text.contains("meta"), "{text}");
}

/// Changes the file of a folder behind the store's back.
fn meddle(folder: &TempDir, act: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(folder.path().join("dtabs.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    act(&transaction);
    transaction.commit().unwrap();
}

#[test]
fn a_later_format_is_not_read() {
    let (folder, _) = filled(1);
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    meddle(&folder, |transaction| drop(transaction.open_table(meta).unwrap().insert("format", 2).unwrap()));
    let text = open(&folder).unwrap_err().to_string();
    assert!(text.contains("has format 2, and this version knows format 1 only"), "{text}");
}

#[test]
fn a_dtab_that_cannot_be_read_is_named() {
    let (folder, dtabs) = filled(2);
    let history = redb::TableDefinition::<(&str, u64), (u64, Option<&str>, Option<&str>, Option<&str>)>::new("history");
    let number = u64::from_be_bytes(dtabs["ns-1"].version.0.as_ref().try_into().unwrap());
    meddle(&folder, |transaction| {
        let mut table = transaction.open_table(history).unwrap();
        table.insert(("ns-1", number), (0, None, None, Some("/a => nothing"))).unwrap();
    });
    let text = damaged(&folder);
    assert!(text.contains("namespace \"ns-1\""), "{text}");
}

#[test]
fn a_folder_serves_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = File::lock(folder.path().to_owned()).unwrap();
    let text = open(&folder).unwrap_err().to_string();
    assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
    drop(first);
    assert!(open(&folder).is_ok());
}

#[test]
fn a_folder_that_cannot_be_one_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "").unwrap();
    let text = File::lock(path.join("below")).map(drop).unwrap_err().to_string();
    assert!(text.contains("make the folder") && text.contains("set `path` of the storage"), "{text}");
}

#[test]
fn every_refusal_of_the_operating_system_says_what_to_do() {
    let cases = [
        (28, "free some space"),
        (27, "ulimit -f"),
        (30, "mount it for writing"),
        (13, "the user of this process"),
        (122, "quota"),
        (5, "check the disk"),
    ];
    for (code, advice) in cases {
        let source = io::Error::from_raw_os_error(code);
        let fault = Fault::Error(redb::Error::Io(source));
        let text = fault.at("write", Path::new("/var/lib/dtabs.redb")).to_string();
        assert!(text.starts_with("cannot write /var/lib/dtabs.redb: ") && text.contains(advice), "{text}");
    }
}

#[test]
fn a_panic_over_the_file_is_an_error() {
    let (folder, _) = filled(1);
    let mut file = File::lock(folder.path().to_owned()).unwrap();
    file.open().unwrap();
    let outcome = file.with::<()>(|_| panic!("a page of no kind"));
    assert!(matches!(&outcome, Err(LocalError::Damaged { why, .. }) if why == "a page of no kind"), "{outcome:?}");
    file.close();
    assert_eq!(file.open().unwrap().len(), 1);
}

#[test]
fn files_are_for_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("new");
    File::lock(folder.clone()).unwrap().open().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let modes = [mode(&folder), mode(&folder.join("dtabs.redb")), mode(&folder.join("dtabs.lock"))];
    assert!(modes[0] & 0o077 == 0 && modes[1] & 0o177 == 0 && modes[2] & 0o177 == 0, "{modes:?}");
}

//! [`Files`]: what a set of files holds at one moment.
//!
//! For: loading, which sees bytes and not paths, so that what is checked is what is used; and for the watch, which
//! compares. Not for: knowing when to read. Reading blocks: at start, and on blocking threads of the control runtime.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher as _;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// Longest file in bytes; bundles of all public authorities have some 250 KB.
pub(crate) const MAX_BYTES: u64 = 4 * 1024 * 1024;

type Content = Result<Arc<[u8]>, Arc<str>>;

/// The bytes of files, or why a file cannot be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    by_path: BTreeMap<PathBuf, Content>,
}

/// Stands for the content of a set of files; the content itself, keys among it, is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint(Vec<u64>);

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Files {
    /// Reads the files.
    pub(crate) fn read(paths: &[PathBuf]) -> Files {
        let mut files = Files::default();
        paths.iter().for_each(|path| files.add(path));
        files
    }

    /// Reads a file unless it was read already.
    pub(crate) fn add(&mut self, path: &Path) {
        if !self.by_path.contains_key(path) {
            let content = read(path).map(Arc::from).map_err(|error| Arc::from(error.to_string()));
            self.by_path.insert(path.to_owned(), content);
        }
    }

    /// The bytes of a file that was read.
    pub(crate) fn bytes(&self, path: &Path) -> Result<&[u8], String> {
        match self.by_path.get(path) {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(why)) => Err(format!("cannot be read: {why}")),
            None => Err("was not read".to_owned()),
        }
    }

    /// What stands for the content of these files.
    pub(crate) fn fingerprint(&self, paths: &[PathBuf]) -> Fingerprint {
        Fingerprint(paths.iter().map(|path| HASHER.hash_one(self.by_path.get(path))).collect())
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe without a writer would block for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_changes_with_the_content_and_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a"), folder.path().join("b")];
        let print = || Files::read(&paths).fingerprint(&paths);
        let absent = print();
        assert_eq!(absent, print());
        std::fs::write(&paths[0], "x").unwrap();
        let one = print();
        assert_ne!(absent, one);
        assert_eq!(one, print());
        std::fs::write(&paths[0], "y").unwrap();
        assert_ne!(one, print());
    }

    #[test]
    fn folders_and_files_without_end_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large");
        File::create(&large).unwrap().set_len(MAX_BYTES + 1).unwrap();
        let files = Files::read(&[folder.path().to_owned(), large.clone(), "/dev/zero".into()]);
        assert!(files.bytes(folder.path()).unwrap_err().contains("not a file"));
        assert!(files.bytes(&large).unwrap_err().contains("more than 4194304 bytes"));
        assert!(files.bytes(Path::new("/dev/zero")).unwrap_err().contains("not a file"));
    }
}

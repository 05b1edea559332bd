//! The folder that an `io.l5d.fs` namer watches.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A discovery folder: one file per name, one `host port` line per address.
#[derive(Debug)]
pub struct Disco {
    folder: PathBuf,
    /// Where new files are written before they are renamed.
    staging: PathBuf,
    next: AtomicU64,
}

impl Disco {
    /// Makes the folder inside `parent`.
    pub fn new(parent: &Path) -> Disco {
        let (folder, staging) = (parent.join("disco"), parent.join("staging"));
        for path in [&folder, &staging] {
            std::fs::create_dir_all(path).expect("the discovery folder can be made");
        }
        Disco { folder, staging, next: AtomicU64::new(0) }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Gives a name these addresses, by an atomic rename.
    pub fn set(&self, name: &str, addrs: &[SocketAddr]) {
        self.replace(name, &Disco::lines(addrs));
    }

    /// Gives a file this text, by an atomic rename.
    pub fn replace(&self, name: &str, text: &str) {
        let staged = self.staging.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::write(&staged, text).expect("the new file can be written");
        std::fs::rename(&staged, self.folder.join(name)).expect("the new file can be renamed");
    }

    /// Writes this text into the file as it is, as an editor or `echo >` does.
    pub fn edit(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).expect("the file can be edited");
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.join(name)).expect("the file can be removed");
    }

    /// The text of a discovery file with these addresses.
    pub fn lines(addrs: &[SocketAddr]) -> String {
        addrs.iter().map(|addr| format!("{} {}\n", addr.ip(), addr.port())).collect()
    }
}

//! Whether the disk still keeps what it says it has synced. The writer asks after each commit, before anybody hears of it.
//!
//! When ext4 gives up on a disk it aborts its journal first and says so a little later. A sync that is under way between the two
//! finds its transaction gone and returns success, although the file's new length was never written (docs/durability.md). The
//! journal refuses new work from its abort on, so a change that needs the journal tells the truth: it comes after the sync, and
//! succeeds only if the journal was whole until then.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rusqlite::ffi;

/// `EXT4_SUPER_MAGIC`, which ext2 and ext3 share.
#[cfg(target_os = "linux")]
const EXT4: i128 = 0xEF53;

/// A file without a name on the disk of a database. Nothing is ever read from it.
#[derive(Debug)]
pub(super) struct Disk {
    probe: Option<File>,
    is_long: Cell<bool>,
}

impl Disk {
    /// A probe beside the database. Where no file system is known to tell untruths there is none.
    pub(super) fn beside(database: &Path) -> io::Result<Self> {
        let probe = if is_ext4(database)? {
            let path = database.with_added_extension(format!("probe-{}", std::process::id()));
            let probe = File::create(&path)?;
            fs::remove_file(&path)?;
            Some(probe)
        } else {
            None
        };
        Ok(Self {
            probe,
            is_long: Cell::new(false),
        })
    }

    /// Fails when the disk has given up, perhaps before the last commit was on it.
    pub(super) fn still_keeps(&self) -> rusqlite::Result<()> {
        let Some(probe) = &self.probe else { return Ok(()) };
        // A change of length is refused aloud; a change of time would fail in silence.
        self.is_long.set(!self.is_long.get());
        probe.set_len(self.is_long.get().into()).map_err(|error| {
            let code = ffi::Error::new(ffi::SQLITE_IOERR_FSYNC);
            rusqlite::Error::SqliteFailure(code, Some(format!("the disk gave up during the commit: {error}")))
        })
    }
}

#[cfg(target_os = "linux")]
fn is_ext4(path: &Path) -> io::Result<bool> {
    Ok(i128::from(rustix::fs::statfs(path)?.f_type) == EXT4)
}

#[cfg(not(target_os = "linux"))]
fn is_ext4(_: &Path) -> io::Result<bool> {
    Ok(false)
}

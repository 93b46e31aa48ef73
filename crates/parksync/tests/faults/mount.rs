//! A small disk of its own: an ext4 file system in a file, which can be full, become read-only, and lose its power.
//!
//! What was written but not synced is in the kernel's memory and not in the file: a copy of the file is what a power cut leaves.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: usize = 1024 * 1024;
/// Room for a log that has not come to its checkpoint yet (40 MiB), the database and the journal of the file system.
const SIZE_MIB: usize = 96;

/// A mounted disk. Gone when dropped.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// `None`, said loudly, where nothing may be mounted.
    pub(crate) fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let disk = Self { folder };
        fs::create_dir(disk.path()).unwrap();
        File::create(disk.image())
            .unwrap()
            .set_len((SIZE_MIB * MIB) as u64)
            .unwrap();
        let made = run("mkfs.ext4", &["-q", "-m", "0", text(&disk.image())]).and_then(|()| disk.plug_in());
        made.inspect_err(|why| eprintln!("SKIPPED: a disk of its own needs mkfs.ext4 and the right to mount ({why})"))
            .ok()?;
        Some(disk)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn plug_in(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", text(&self.image()), text(&self.path())])
    }

    /// Settings and keys were there long before the power goes.
    pub(crate) fn sync(&self) {
        run("sync", &["-f", text(&self.path())]).unwrap();
    }

    /// Writes until so much is left, in MiB, or nothing.
    pub(crate) fn fill(&self, left: usize) {
        let mut ballast = File::create(self.ballast()).unwrap();
        for chunk in [MIB, 4096] {
            while self.free() > left * MIB && ballast.write_all(&vec![1; chunk]).is_ok() {}
        }
        // What the loop counts as written may still lack its place.
        let _ = ballast.sync_all();
        while left == 0 && ballast.write_all(&[1; 1024]).is_ok() {}
    }

    pub(crate) fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    fn free(&self) -> usize {
        let disk = rustix::fs::statvfs(self.path()).unwrap();
        usize::try_from(disk.f_bavail * disk.f_frsize).unwrap()
    }

    /// What the kernel does to a disk that it no longer trusts: from now on nothing can be written.
    pub(crate) fn abort(&self) {
        run("mount", &["-o", "remount,abort", text(&self.path())]).unwrap();
    }

    /// Mounts it anew.
    pub(crate) fn repair(&self) {
        run("umount", &[text(&self.path())]).unwrap();
        self.plug_in().unwrap();
    }

    /// What would be on the disk if the power went now.
    pub(crate) fn copy(&self) -> Vec<u8> {
        fs::read(self.image()).unwrap()
    }

    /// The power was gone since the copy, and is back.
    pub(crate) fn go_back_to(&self, copy: &[u8]) {
        run("umount", &[text(&self.path())]).unwrap();
        fs::write(self.image(), copy).unwrap();
        self.plug_in().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &["--lazy", text(&self.path())]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let done = Command::new(program)
        .args(words)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if done.status.success() {
        Ok(())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&done.stderr).trim()))
    }
}

//! Servers that write to a real disk, are stopped and killed, and follow one another.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio_postgres::{Client, NoTls};

use crate::pg::{self, Server};
use crate::port;

/// Commits wait for a standby that has written them down.
pub(crate) const SYNCHRONOUS: &str = "synchronous_standby_names";

/// A folder that the server's user can reach, on a disk.
pub(crate) fn folder() -> PathBuf {
    tempfile::tempdir_in("/tmp").unwrap().keep()
}

impl Server {
    /// A new server on a real disk, which is synced.
    pub(crate) fn durable(more: &str) -> Self {
        let folder = folder();
        Self::init(&folder);
        Self::start(&folder, port::free(), more)
    }

    /// A standby of this server, on a copy of its files.
    pub(crate) fn follow(&self, port: u16, more: &str) -> Self {
        let folder = folder();
        pg::hand_over(&folder);
        let copied = pg::program("pg_basebackup")
            .args([
                "-h",
                "127.0.0.1",
                "-U",
                "parksync",
                "-R",
                "-X",
                "stream",
                "-c",
                "fast",
                "-N",
                "-p",
            ])
            .arg(self.port.to_string())
            .arg("-D")
            .arg(folder.join("data"))
            .current_dir("/")
            .output()
            .unwrap();
        assert!(
            copied.status.success(),
            "pg_basebackup: {}",
            String::from_utf8_lossy(&copied.stderr)
        );
        Self::start(&folder, port, more)
    }

    /// Its URL as one host of several: `host:port`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Stops it as its people do, and starts it again.
    pub(crate) fn restart(mut self, more: &str) -> Self {
        self.end();
        Self::start(&self.folder, self.port, more)
    }

    /// Kills it, all of it, and waits until it is gone. Its files stay.
    pub(crate) fn kill(mut self) -> Dead {
        let mut lines = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        lines.truncate(lines.find('\n').unwrap());
        let postmaster = Pid::from_raw(lines.parse().unwrap()).unwrap();
        // Its children end by themselves when it is gone, as after a crash.
        rustix::process::kill_process(postmaster, Signal::KILL).unwrap();
        self.end();
        while is_worked_in(&self.data()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Dead {
            folder: self.folder.clone(),
            port: self.port,
        }
    }

    fn end(&mut self) {
        self.pipe.write_all(b"keep\n").unwrap();
        self.shell.wait().unwrap();
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        assert_eq!(self.sql("postgres", "SELECT pg_promote()"), "t");
    }

    /// Sets a setting while it runs.
    pub(crate) fn set(&self, name: &str, value: &str) {
        self.sql("postgres", &format!("ALTER SYSTEM SET {name} = '{value}'"));
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    /// Waits until SQL prints this.
    pub(crate) fn wait_until(&self, sql: &str, prints: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let printed = self.sql("postgres", sql);
            if printed == prints {
                return;
            }
            assert!(Instant::now() < end, "{sql}: {printed} instead of {prints}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a standby is told of every commit before its client is.
    pub(crate) fn wait_until_followed(&self) {
        let followed =
            "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum') AND state = 'streaming'";
        self.wait_until(followed, "1");
    }

    /// A connection of the test's own.
    pub(crate) async fn connect(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// The files of a server that was killed. They go when this is dropped.
pub(crate) struct Dead {
    folder: PathBuf,
    pub(crate) port: u16,
}

impl Dead {
    /// Starts it on its files.
    pub(crate) fn start(mut self, more: &str) -> Server {
        let folder = std::mem::take(&mut self.folder);
        Server::start(&folder, self.port, more)
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        if !self.folder.as_os_str().is_empty() {
            fs::remove_dir_all(&self.folder).unwrap();
        }
    }
}

/// Whether a process works in this folder, as all of PostgreSQL's do.
fn is_worked_in(folder: &Path) -> bool {
    fs::read_dir("/proc").unwrap().any(|process| {
        let place = process.unwrap().path().join("cwd");
        fs::read_link(place).is_ok_and(|place| place == folder)
    })
}

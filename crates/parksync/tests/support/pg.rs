//! A PostgreSQL of the tests' own: started from Debian's package on a free port, as a user that is not root, gone with the test process.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parksync::store::postgres::Address;

use crate::port;

/// A running server. It ends, and its files go, when this is dropped, or when the test process ends in whatever way: it hangs on a
/// pipe.
pub(crate) struct Server {
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    pub(crate) shell: Child,
    /// A line on it: stop, and keep the files. Its end: the files go, too.
    pub(crate) pipe: ChildStdin,
}

/// The server that all tests of a process share. It starts with the first test that asks.
pub(crate) fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let folder = tempfile::tempdir_in(home()).unwrap().keep();
        Server::init(&folder);
        Server::start(&folder, port::free(), "")
    })
}

/// A place that the server's user can reach; in memory where there is such a place, since no test of the shared server cuts the power.
fn home() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}

/// Where Debian's package keeps the programs, newest version last.
fn programs() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed: `cargo xtask test` does it, or `apt-get install postgresql`")
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            path.join("bin/postgres").exists().then(|| (version, path.join("bin")))
        })
        .collect();
    versions.sort();
    versions.pop().expect("a version of PostgreSQL is installed").1
}

/// A program of PostgreSQL's, which refuses to run as root.
pub(crate) fn program(name: &str) -> Command {
    let path = programs().join(name);
    if !rustix::process::geteuid().is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(path);
    command
}

/// Hands a folder to the user that the server runs as.
pub(crate) fn hand_over(folder: &Path) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let entry = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("the package made its user");
    let mut fields = entry.split(':').skip(2).map(|field| field.parse().unwrap());
    chown(folder, fields.next(), fields.next()).unwrap();
}

impl Server {
    /// Makes the files of a server in a folder.
    pub(crate) fn init(folder: &Path) {
        hand_over(folder);
        let made = program("initdb")
            .arg("-D")
            .arg(folder.join("data"))
            .args(["-N", "-A", "trust", "-U", "parksync", "-E", "UTF8", "--locale=C.UTF-8"])
            .current_dir("/")
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }

    /// A new server on a disk that keeps what it has synced, with room for a benchmark.
    pub(crate) fn roomy(folder: &Path) -> Self {
        // The folders above belong to whoever runs the tests.
        Self::init(folder);
        Self::start(folder, port::free(), "-c shared_buffers=1GB -c max_wal_size=8GB")
    }

    /// Starts a server on its files. `more`: further settings, as for the command line of `postgres`.
    pub(crate) fn start(folder: &Path, port: u16, more: &str) -> Self {
        let server = program("postgres");
        let words: Vec<String> = std::iter::once(server.get_program())
            .chain(server.get_args())
            .map(|word| word.to_str().unwrap().to_owned())
            .collect();
        let data = folder.join("data");
        let command = format!(
            "{} -D {} -p {port} -k {} -h 127.0.0.1 -c max_connections=60 -c max_locks_per_transaction=256 {more} 2>{} & \
             read -r keep; kill -INT $!; wait; [ \"$keep\" ] || rm -rf {}",
            words.join(" "),
            data.display(),
            data.display(),
            folder.join("log").display(),
            folder.display()
        );
        let mut shell = Command::new("sh")
            .args(["-c", &command])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pipe = shell.stdin.take().unwrap();
        let server = Self {
            folder: folder.to_owned(),
            port,
            shell,
            pipe,
        };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&self) {
        let began = Instant::now();
        while !self.psql("postgres", "SELECT 1").status.success() {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "PostgreSQL does not start: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn psql(&self, database: &str, sql: &str) -> std::process::Output {
        Command::new(programs().join("psql"))
            .args([
                "-h",
                "127.0.0.1",
                "-U",
                "parksync",
                "-X",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-p",
            ])
            .arg(self.port.to_string())
            .args(["-d", database, "-c", sql])
            .output()
            .unwrap()
    }

    /// Runs SQL and returns what it prints.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let ran = self.psql(database, sql);
        assert!(ran.status.success(), "{sql}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }

    /// A new database of this name and a number, empty.
    pub(crate) fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("parksync{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// How a service names a database of this server.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://parksync@127.0.0.1:{}/{database}", self.port)
    }

    /// The address of a new, empty database.
    pub(crate) fn address(&self) -> Address {
        Address::new(&self.url(&self.database()), None, None).unwrap()
    }
}

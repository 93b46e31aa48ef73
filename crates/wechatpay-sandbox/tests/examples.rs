//! The examples that the program writes, each run as its reader would run it: curl, PHP, Node.js, Python, Go, Java, Rust.
//!
//! The real program writes and answers them. Where an interpreter is missing its example is skipped, loudly, except where
//! `CI` is set; `cargo xtask test` installs them all.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// The program with its folder. Ends with the test, whatever happens.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    folder: tempfile::TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_wechatpay-sandbox"))
            .args(["--polite", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.by_ref().any(|line| line.unwrap().contains("Ctrl-C")));
        Self { child, lines, folder }
    }

    fn examples(&self) -> PathBuf {
        self.folder.path().join("examples")
    }

    /// Stops it; its last words.
    fn stop(mut self) -> String {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(killed.unwrap().success());
        self.lines.by_ref().last().unwrap().unwrap()
    }
}

/// Runs an example, which reports a car and verifies the answer's signature, and sees that both went well.
fn works(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(lines, ["204", "signature good"], "{command:?}: {errors}");
}

/// Whether what an example needs is there: this command succeeds. If not, that is an error in CI and said aloud elsewhere.
fn is_there(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    let found = output.is_ok_and(|output| output.status.success());
    assert!(
        found || std::env::var_os("CI").is_none(),
        "{program} {arguments:?} must succeed in CI"
    );
    if !found {
        eprintln!("SKIPPED, SKIPPED, SKIPPED: {program} {arguments:?} fails, so its example is not tried");
    }
    found
}

/// Starts the program, lets one example make its call, and sees that the call arrived and was accepted.
fn try_out(needs: &[(&str, &[&str])], run: &[&str], folder: &str, settings: &[(&str, &Path)]) {
    if !needs.iter().all(|(program, arguments)| is_there(program, arguments)) {
        return;
    }
    let program = Program::start();
    let mut command = Command::new(run[0]);
    command.args(&run[1..]).current_dir(program.examples().join(folder));
    command.envs(settings.iter().copied());
    works(&mut command);
    assert_eq!(program.stop(), "stopped after 1 calls, 1 accepted");
}

#[test]
fn the_curl_example_works() {
    try_out(
        &[("curl", &["--version"]), ("openssl", &["version"])],
        &["bash", "park.sh"],
        "",
        &[],
    );
}

#[test]
fn the_php_example_works() {
    let extensions = "exit(function_exists('curl_init') && function_exists('openssl_sign') ? 0 : 1);";
    try_out(&[("php", &["-r", extensions])], &["php", "park.php"], "", &[]);
}

#[test]
fn the_node_example_works() {
    try_out(&[("node", &["--version"])], &["node", "park.mjs"], "", &[]);
}

#[test]
fn the_python_example_works() {
    if !is_there("python3", &["-m", "pip", "--version"]) {
        return;
    }
    let packages = scratch("example-python");
    if !packages.join("cryptography").exists() {
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
            "--target",
        ]);
        assert!(pip.arg(&packages).arg("cryptography").status().unwrap().success());
    }
    try_out(&[], &["python3", "park.py"], "", &[("PYTHONPATH", &packages)]);
}

#[test]
fn the_go_example_works() {
    try_out(
        &[("go", &["version"])],
        &["go", "run", "park.go"],
        "",
        &[("GOCACHE", &scratch("example-go")), ("GOFLAGS", Path::new("-mod=mod"))],
    );
}

#[test]
fn the_java_example_works() {
    // javac tells a JDK from a JRE, which cannot run source.
    try_out(&[("javac", &["-version"])], &["java", "Park.java"], "", &[]);
}

/// Built in a folder of its own that stays, with the versions that this workspace has: the first time takes a minute.
#[test]
fn the_rust_example_works() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    let program = Program::start();
    let folder = program.examples().join("rust");
    std::fs::copy(lock, folder.join("Cargo.lock")).unwrap();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--quiet"]).current_dir(folder);
    command
        .env("CARGO_TARGET_DIR", scratch("example-rust"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    works(&mut command);
    assert_eq!(program.stop(), "stopped after 1 calls, 1 accepted");
}

/// A folder under `target/tmp` that the next run finds again.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

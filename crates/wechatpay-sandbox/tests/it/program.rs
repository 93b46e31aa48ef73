//! The program: starts, writes its folder, explains refusals, stops when told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// Ends with the test, whatever happens.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_introduces_itself_explains_a_refusal_and_stops_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_wechatpay-sandbox"))
        .args(["--polite", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut program = Program(child);
    let mut lines = BufReader::new(program.0.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);

    let introduction: Vec<_> = lines.by_ref().take_while(|line| !line.contains("Ctrl-C")).collect();
    let http = introduction
        .iter()
        .filter(|line| line.contains("(HTTP)"))
        .find_map(|line| line.split_once("http://"))
        .unwrap()
        .1;
    let mut stream = TcpStream::connect(http).unwrap();
    stream
        .write_all(b"GET /v3/nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let refusal: Vec<_> = lines.by_ref().take(2).collect();
    let killed = Command::new("kill").arg(program.0.id().to_string()).status().unwrap();
    let farewell = lines.next().unwrap();

    assert!(introduction.iter().any(|line| line.starts_with("Polite")));
    assert!(dir.path().join("parksync.toml").exists());
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(
        refusal[0].contains("GET /v3/nowhere → 404") && refusal[1].contains("hint"),
        "{refusal:?}"
    );
    assert!(killed.success());
    assert_eq!(farewell, "stopped after 1 calls, 0 accepted");
    assert!(program.0.wait().unwrap().success());
}

#[test]
fn a_folder_that_is_not_its_own_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("parksync.toml"), "[server]\n").unwrap();

    let output = Command::new(env!("CARGO_BIN_EXE_wechatpay-sandbox"))
        .arg("--dir")
        .arg(dir.path())
        .output()
        .unwrap();

    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not the sandbox's"));
}

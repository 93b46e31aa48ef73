//! The real binary: what it prints and how it ends.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use wechatpay_sandbox::{Fault, Refusal, Sandbox};

use crate::app::write_settings;

fn parksync(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_parksync"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn parksync_with_input(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_parksync"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_demo_passes_its_own_audit() {
    let output = parksync(Path::new("."), &["demo", "--cars", "300", "--seed", "3"]);

    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    assert!(text(&output.stdout).contains("PASSED"));
}

#[test]
fn plates_are_checked_line_by_line() {
    let output = parksync_with_input(&["plate", "check"], "粤a·12345\n无牌车\r\n");
    let lines: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();

    assert_eq!(
        (&lines[0]["verdict"], &lines[0]["plate"]),
        (&"ok".into(), &"粤A12345".into())
    );
    assert_eq!(
        (&lines[1]["raw"], &lines[1]["verdict"]),
        (&"无牌车".into(), &"no-plate".into())
    );
}

#[test]
fn a_gate_message_is_tried_out() {
    let message = include_str!("../../../../examples/gate-messages/huaxia-httppost-mode5-form.txt");
    let output = parksync_with_input(&["gate", "try", "--format", "huaxia-mode5", "-"], message);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();

    assert!(output.status.success());
    assert_eq!(
        (&line["class"], &line["plate"], &line["state"], &line["time"]),
        (
            &"event".into(),
            &"粤B12345".into(),
            &"IN".into(),
            &"2023-06-09T16:39:54+08:00".into()
        )
    );
    let broken = parksync_with_input(&["gate", "try", "--format", "vzenith-http", "-"], "no json");
    assert_eq!(broken.status.code(), Some(2));
    assert!(text(&broken.stdout).contains("\"class\":\"rejected\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_state_is_sent_directly_and_the_exit_code_says_how_it_went() {
    let sandbox = Sandbox::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_settings(&sandbox, folder.path(), "127.0.0.1:0");
    let send = ["send", "--openid", "openid-1", "--plate", "粤B888888", "--state", "in"];

    let sent = parksync(folder.path(), &send);
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    assert_eq!(sandbox.ledger().accepted(), 1);

    sandbox
        .faults()
        .next(Fault::Refuse(Refusal::new(403, "NO_AUTH", "brandid与AppID不匹配")));
    let refused = parksync(folder.path(), &send);
    assert_eq!(refused.status.code(), Some(4));
    assert!(text(&refused.stderr).contains("hint:"), "{}", text(&refused.stderr));

    sandbox.faults().next(Fault::SystemError);
    assert_eq!(parksync(folder.path(), &send).status.code(), Some(5));
    assert_eq!(
        parksync(folder.path(), &["send", "--state", "in"]).status.code(),
        Some(2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_line_of_an_import_is_told_with_its_number() {
    let sandbox = Sandbox::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_settings(&sandbox, folder.path(), "127.0.0.1:0");
    let csv = "openid,plate,circle\nopenid-1,宁Y00001,\nopen id,宁Y00002,\nopenid-3,hello,\n\nopenid-4,宁Y00004,nowhere\nopenid-5\nopenid-6,宁Y00006,demo-mall\n";
    std::fs::write(folder.path().join("members.csv"), csv).unwrap();

    let import = parksync(folder.path(), &["members", "import", "members.csv"]);
    let told = text(&import.stderr);

    assert_eq!(import.status.code(), Some(6), "{told}");
    for (line, field) in [(3, "openid"), (4, "plate"), (6, "circle"), (7, "plate")] {
        assert!(told.contains(&format!("line {line}: {field}:")), "{line}: {told}");
    }
    assert_eq!(
        text(&import.stdout),
        "{\"added\":2,\"bad\":4,\"inside\":0,\"lines\":6}\n"
    );
    let list = parksync(folder.path(), &["members", "list"]);
    assert_eq!(text(&list.stdout).lines().count(), 2);
    let again = parksync(
        folder.path(),
        &["members", "bind", "--openid", "openid-1", "--plate", "宁Y00001"],
    );
    assert_eq!(text(&again.stdout), "{\"added\":0,\"inside\":0}\n");
    let unbound = parksync(folder.path(), &["members", "unbind", "--openid", "openid-1"]);
    assert_eq!(text(&unbound.stdout), "{\"removed\":1,\"withdrawn\":0}\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_checked_and_printed_without_secrets() {
    let sandbox = Sandbox::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let written = write_settings(&sandbox, folder.path(), "127.0.0.1:0");

    let fine = parksync(folder.path(), &["config", "check"]);
    assert!(fine.status.success(), "{}", text(&fine.stderr));
    let printed = parksync(folder.path(), &["config", "print"]);
    assert!(text(&printed.stdout).contains("max_in_flight = 128"));
    for secret in [&written.gate_key, &written.admin_key] {
        assert!(!text(&printed.stdout).contains(std::fs::read_to_string(secret).unwrap().trim()));
    }
    std::fs::remove_file(&written.gate_key).unwrap();
    let broken = parksync(folder.path(), &["config", "check"]);
    assert_eq!(broken.status.code(), Some(3));
    assert!(text(&broken.stderr).contains("gate.key"), "{}", text(&broken.stderr));
    let missing = parksync(folder.path(), &["config", "check", "--config", "nowhere.toml"]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(text(&missing.stderr).contains("hint:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_is_looked_at_and_mended_from_the_command_line() {
    let app = crate::app::TestApp::start().await;
    app.bind("宁Y00001", "oUpF8uMuAJOM2pxb1Q").await;
    app.sandbox
        .faults()
        .next(Fault::Refuse(Refusal::new(400, "PARAM_ERROR", "plate_number格式有误")));
    app.gate("宁Y00001", "IN").await;
    app.settle_all().await;
    let folder = app.folder.path();

    let dead = text(&parksync(folder, &["outbox", "list", "--state", "dead"]).stdout);
    assert!(
        dead.contains("plate_number格式有误") && dead.contains("outbox replay 1"),
        "{dead}"
    );
    assert!(!dead.contains("宁Y00001"), "{dead}");
    let preview = text(&parksync(folder, &["outbox", "replay", "1"]).stdout);
    assert!(preview.contains("Add --yes"), "{preview}");
    assert!(parksync(folder, &["outbox", "replay", "1", "--yes"]).status.success());
    // The running service finds what another process wrote, by the clock of the machine.
    app.advance(jiff::SignedDuration::from_hours(7));
    assert!(
        app.sandbox
            .ledger()
            .wait_for(|ledger| ledger.accepted() == 1, crate::app::PATIENCE)
            .await
    );
    app.settle_all().await;
    let shown = text(&parksync(folder, &["outbox", "show", "1"]).stdout);
    assert!(shown.contains("WeChat Pay took it"), "{shown}");
    let traced = text(&parksync(folder, &["visits", "trace", "宁Y00001"]).stdout);
    assert!(traced.contains("because a person sent it again"), "{traced}");
    assert_eq!(parksync(folder, &["outbox", "show", "99"]).status.code(), Some(2));
    assert!(
        parksync(folder, &["outbox", "hold", "--circle", "demo-mall", "--reason", "test"])
            .status
            .success()
    );
    assert!(text(&parksync(folder, &["outbox", "holds"]).stdout).contains("demo-mall"));
    assert!(text(&parksync(folder, &["outbox", "release", "--circle", "demo-mall"]).stdout).contains("goes on"));
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_parksync"))
        .args(["plate", "check"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let _ = child
        .stdin
        .take()
        .unwrap()
        .write_all("粤B12345\n".repeat(10_000).as_bytes());
    let output = child.wait_with_output().unwrap();

    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

//! `parksync rehearse`: the numbers of known traces, what is refused, and that a wrong end is found.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

const HEADER: &str = "received,record_id,lane,state,plate,time\n";
/// Of the tests' traces every car is a member's, but of one that a file names.
const MEMBERS: &str = "openid,plate\nrehearsal-openid-1,宁YR0001\nrehearsal-openid-2,宁YR0001\nrehearsal-openid-2,宁YR0002\n\
                       rehearsal-openid-3,宁YR0003\n";

fn rehearse(folder: &Path, trace: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_parksync"))
        .args(["rehearse", trace])
        .args(["--speed", "max"].iter().filter(|_| !more.contains(&"--speed")))
        .args(more)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Plays lines with the members above; returns how it ended, the numbers, and what was said.
fn play(lines: &str) -> (Option<i32>, Value, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("trace.csv"), format!("{HEADER}{lines}")).unwrap();
    std::fs::write(folder.path().join("members.csv"), MEMBERS).unwrap();
    let output = rehearse(folder.path(), "trace.csv", &["--json", "--members", "members.csv"]);
    let numbers = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), numbers, String::from_utf8(output.stderr).unwrap())
}

#[track_caller]
fn same(numbers: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&numbers[name], value, "{name} in {numbers}");
    }
}

#[test]
fn the_example_has_the_numbers_that_are_known_of_it() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/traces");
    let output = rehearse(Path::new(folder), "weekend.csv", &["--members-share", "1", "--json"]);
    let numbers: Value = serde_json::from_slice(&output.stdout).unwrap();

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // 437 lines, less what was resent, merged, unread, held or superseded, and twice what two families' cars did: 383.
    let expected = json!({
        "events": 437, "bad_lines": 0, "plates": 160, "members": 161, "bindings": 162,
        "sent": 383, "repeats": 0, "merged": 21, "duplicates": 21, "superseded": 2, "held": 3, "undelivered": 0,
        "never_sent": { "no-plate-read": 11 }, "wrong_final_states": 0,
    });
    same(&numbers, &expected);
    assert!(numbers["p50_ms"].as_f64().unwrap() <= numbers["p99_ms"].as_f64().unwrap());
}

#[test]
fn people_read_rows_and_a_seed_chooses_the_members() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/traces");
    let output = rehearse(Path::new(folder), "weekend.csv", &["--seed", "5"]);
    let text = String::from_utf8(output.stdout).unwrap();

    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("PASSED") && text.contains("with 48 of the trace's 160 plates"),
        "{text}"
    );
    assert!(!text.contains("宁YT"), "{text}");
}

#[test]
fn what_gates_do_is_counted_as_what_it_is() {
    let (exit, numbers, said) = play(
        // A camera that resends; a second camera; the exit of a family's car.
        "2025-07-05 10:00:01,A1,P1/E1,IN,宁YR0001,2025-07-05 10:00:00\n\
         2025-07-05 10:00:06,A1,P1/E1,IN,宁YR0001,2025-07-05 10:00:00\n\
         2025-07-05 10:00:12,B7,P1/E2,IN,宁·YR0001,2025-07-05 10:00:11\n\
         2025-07-05 11:00:01,A2,P1/X1,OUT,宁YR0001,2025-07-05 11:00:00\n\
         2025-07-05 11:30:00,A9,P1/X1,OUT,宁YR0900,2025-07-05 11:30:00\n\
         2025-07-05 11:31:00,,P1/X1,OUT,_无_,\n\
         2025-07-05 11:32:00,,P1/X1,OUT,hello,\n\
         2025-07-05 12:00:00,C1,P1/E1,IN,宁YR0002,\n\
         2025-07-05 14:30:00,C2,P1/E1,IN,宁YR0002,2025-07-05 14:30:00\n\
         2025-07-05 16:00:01,C3,P2/E1,IN,宁YR0003,2025-07-05 13:00:00\n\
         2025-07-05 16:00:02,C4,P2/X1,OUT,宁YR0003,2025-07-05 13:40:00\n\
         2025-07-05 16:00:03,C5,P2/E1,IN,宁YR0003,2025-07-05 15:00:00\n",
    );

    assert_eq!(exit, Some(0), "{said}");
    // Two members hear of the family's car, twice; the missing exit costs nothing; of the replay only its end is told.
    let expected = json!({
        "events": 12, "plates": 4, "members": 3, "bindings": 4,
        "sent": 7, "duplicates": 1, "merged": 1, "superseded": 2, "held": 0, "no_exit_seen": 1, "repeats": 0,
        "never_sent": { "no-member": 1, "no-plate-read": 1, "not-a-mainland-plate": 1 }, "wrong_final_states": 0,
    });
    same(&numbers, &expected);
}

#[test]
fn a_wrong_end_is_found_and_named_by_its_line() {
    // The lot system counts its records from one again each day: a new entry is taken for a resend.
    let (exit, numbers, said) = play(
        "2025-07-05 10:00:00,1,P1/E1,IN,宁YR0003,2025-07-05 10:00:00\n\
         2025-07-05 11:00:00,1,P1/X1,OUT,宁YR0003,2025-07-05 11:00:00\n\
         2025-07-06 10:00:00,1,P1/E1,IN,宁YR0003,2025-07-06 10:00:00\n",
    );

    assert_eq!(exit, Some(1), "{said}");
    same(
        &numbers,
        &json!({ "wrong_final_states": 1, "duplicates": 1, "sent": 2 }),
    );
    let wrong = &numbers["wrong"][0];
    assert_eq!((&wrong["line"], &wrong["plate"]), (&json!(4), &json!("宁Y****3")));
    // In the times of the file, although it was moved.
    assert_eq!(wrong["trace_says"], "IN 2025-07-06 10:00:00");
    assert_eq!(wrong["wechat_pay_holds"], "OUT 2025-07-05 11:00:00");
}

#[test]
fn bad_lines_are_named_and_the_rest_is_played() {
    let (exit, numbers, said) = play(
        "2025-07-05 10:00:00,1,P1/E1,IN,宁YR0003,2025-07-05 10:00:00\n\
         yesterday,2,P1/E1,IN,宁YR0003,\n\
         2025-07-05 11:00:00,3,P1/E1,through,宁YR0003,\n",
    );

    assert_eq!(exit, Some(6), "{said}");
    same(
        &numbers,
        &json!({ "events": 1, "bad_lines": 2, "sent": 1, "wrong_final_states": 0 }),
    );
    for told in ["trace.csv: line 3: received:", "trace.csv: line 4: state:"] {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert!(!said.contains("YR0003"), "{said}");
}

#[test]
fn the_future_is_moved_into_the_past_as_a_whole() {
    let (exit, numbers, said) = play(
        "2098-07-05T10:00:00+08:00,1,E1,IN,宁YR0003,2098-07-05T10:00:00+08:00\n\
         2098-07-05T23:00:00+08:00,2,X1,OUT,宁YR0003,2098-07-05T23:00:00+08:00\n",
    );

    assert_eq!(exit, Some(0), "{said}");
    same(&numbers, &json!({ "sent": 2, "wrong_final_states": 0 }));
    assert!(numbers["shifted_days"].as_i64().unwrap() < -1000, "{numbers}");
    assert!(said.contains("so that it ends yesterday"), "{said}");
}

#[test]
fn a_file_that_cannot_be_played_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &str, more: &[&str]| {
        std::fs::write(folder.path().join("trace.csv"), text).unwrap();
        let output = rehearse(folder.path(), "trace.csv", more);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };

    assert!(refused("", &[]).contains("the file is empty"));
    assert!(refused("received,lane,state,plate,time\n", &[]).contains("no column record_id"));
    assert!(refused(HEADER, &[]).contains("no event that can be played"));
    assert!(refused(HEADER, &["--speed", "0"]).contains("nor max"));
    assert!(refused(HEADER, &["--members-share", "2"]).contains("not between 0 and 1"));
    assert!(refused(HEADER, &["--zone", "Nowhere"]).contains("a zone is an offset"));
    let many: String = (0..1001)
        .map(|lane| format!("2025-07-05 10:00:00,,E{lane},IN,宁YR0003,\n"))
        .collect();
    assert!(refused(&format!("{HEADER}{many}"), &[]).contains("more than 1000 lanes"));
    let large = "x".repeat(64 * 1024 * 1024 + 1);
    assert!(refused(&large, &[]).contains("larger than 64 MiB"));
    assert_eq!(rehearse(folder.path(), "nowhere.csv", &[]).status.code(), Some(2));
}

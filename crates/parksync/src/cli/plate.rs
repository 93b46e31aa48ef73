//! `plate check`: raw plates on stdin, one per line, one JSON line out for each.
//!
//! Plates come out in clear: the person who asks typed them. The judging is `domain::plate`'s.

use std::io::{self, BufRead, Read, Write};

use serde::Serialize;

use crate::domain::plate::{self, Kind, Plate, Verdict};

/// A longer line is no plate; the rest of it is skipped.
const LONGEST_LINE: usize = 64 * 1024;

/// One line of output.
#[derive(Serialize)]
struct Line<'a> {
    raw: &'a str,
    verdict: Verdict,
    plate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    /// Whether WeChat Pay can carry the plate.
    #[serde(skip_serializing_if = "Option::is_none")]
    wechat: Option<bool>,
    why: &'static str,
}

/// Checks every line of `input`. Only the line end is stripped; bytes that are not UTF-8 do not stop it.
///
/// # Errors
///
/// When reading or writing fails.
pub fn check(mut input: impl BufRead, mut out: impl Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    while read_line(&mut input, &mut bytes)? {
        let raw = String::from_utf8_lossy(&bytes);
        let checked = plate::check(&raw);
        let line = Line {
            raw: &raw,
            verdict: checked.verdict,
            plate: checked.plate.as_ref().map(Plate::expose),
            kind: checked.kind,
            wechat: checked.plate.as_ref().map(Plate::wechat_can_carry),
            why: checked.why,
        };
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Reads the next line into `line`, without its line end. False at the end of the input.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let limit = LONGEST_LINE as u64 + 1;
    if input.by_ref().take(limit).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if line.len() > LONGEST_LINE {
        line.truncate(LONGEST_LINE);
        let mut rest = Vec::new();
        while input.by_ref().take(limit).read_until(b'\n', &mut rest)? > 0 && rest.last() != Some(&b'\n') {
            rest.clear();
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn lines(input: &[u8]) -> Vec<Value> {
        let mut out = Vec::new();
        check(input, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_line_gets_one_line() {
        let found = lines("粤b·12345\r\n_无_\n\n 京A12345 ".as_bytes());

        assert_eq!(found.len(), 4);
        assert_eq!(
            found[0],
            json!({ "raw": "粤b·12345", "verdict": "ok", "plate": "粤B12345", "kind": "ordinary7", "wechat": true, "why": "fits" })
        );
        assert_eq!(
            found[1],
            json!({ "raw": "_无_", "verdict": "no-plate", "plate": null, "why": "no-plate-read" })
        );
        assert_eq!(found[2]["raw"], "");
        assert_eq!(
            (&found[3]["raw"], &found[3]["plate"]),
            (&json!(" 京A12345 "), &json!("京A12345"))
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_do_not_stop_it() {
        let found = lines(b"\xd4\xc1B12345\n\xe7\xb2\xa4B12345\n");

        assert_eq!(found[0]["verdict"], "reject");
        assert_eq!(found[1]["plate"], "粤B12345");
    }

    #[test]
    fn an_endless_line_is_one_line() {
        let mut input = vec![b'x'; LONGEST_LINE * 5];
        input.extend_from_slice("\n粤B12345\n".as_bytes());

        let found = lines(&input);

        assert_eq!(found.len(), 2);
        assert_eq!(found[0]["verdict"], "reject");
        assert_eq!(found[1]["verdict"], "ok");
    }
}

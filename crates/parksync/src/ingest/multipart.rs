//! Multipart bodies of cameras, split into parts without copying them.
//!
//! Cameras send their pictures in the same body, name the parts as they like, and forget the header: so the boundary is
//! also taken from the body. Called by the formats that arrive this way.

use std::borrow::Cow;

use memchr::memmem::{self, Finder};

use super::{Malformed, Message, words};

/// One part.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// `name` of its `Content-Disposition`.
    pub(super) name: Option<String>,
    /// Its content.
    pub(super) body: &'a [u8],
}

/// No camera sends more.
const MOST_PARTS: usize = 32;
const LONGEST_HEADERS: usize = 8 * 1024;

/// The parts of the body; `None` when it is not a multipart body.
pub(super) fn parts<'a>(message: &Message<'a>) -> Option<Result<Vec<Part<'a>>, Malformed>> {
    let body = message.body;
    let boundary = message
        .content_type
        .and_then(boundary_of_header)
        .filter(|boundary| memmem::find(body, boundary.as_bytes()).is_some())
        .map(|boundary| boundary.into_owned().into_bytes())
        .or_else(|| boundary_of_body(body))?;
    Some(split(body, &boundary))
}

fn boundary_of_header(content_type: &str) -> Option<Cow<'_, str>> {
    if !content_type.trim_start().get(..10)?.eq_ignore_ascii_case("multipart/") {
        return None;
    }
    let parameter = content_type.split(';').map(str::trim).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then_some(value.trim())
    })?;
    let boundary = parameter.trim_matches('"');
    (!boundary.is_empty()).then(|| format!("--{boundary}").into())
}

/// A body that begins with `--boundary` and a header line.
fn boundary_of_body(body: &[u8]) -> Option<Vec<u8>> {
    let start = body.trim_ascii_start();
    let line_end = memchr::memchr(b'\n', start.get(..start.len().min(256))?)?;
    let line = start[..line_end].trim_ascii_end();
    let next = start[line_end + 1..].get(..8)?;
    (line.len() > 2 && line.starts_with(b"--") && next.eq_ignore_ascii_case(b"content-")).then(|| line.to_vec())
}

fn split<'a>(body: &'a [u8], delimiter: &[u8]) -> Result<Vec<Part<'a>>, Malformed> {
    let finder = Finder::new(delimiter);
    let mut parts = Vec::new();
    let mut rest = body;
    let Some(first) = finder.find(rest) else {
        return Ok(parts);
    };
    rest = &rest[first + delimiter.len()..];
    // The last delimiter is followed by two dashes; a body that was cut off has none.
    while !rest.starts_with(b"--") && !rest.is_empty() {
        if parts.len() == MOST_PARTS {
            return Err(Malformed::new(
                "body",
                words::TOO_MUCH,
                format!("more than {MOST_PARTS} parts"),
            ));
        }
        let end = finder.find(rest).unwrap_or(rest.len());
        parts.push(part(&rest[..end])?);
        rest = rest.get(end + delimiter.len()..).unwrap_or_default();
    }
    Ok(parts)
}

/// What is between two delimiters: line end, headers, blank line, content, line end.
fn part(raw: &[u8]) -> Result<Part<'_>, Malformed> {
    let raw = raw
        .strip_prefix(b"\r\n")
        .or_else(|| raw.strip_prefix(b"\n"))
        .unwrap_or(raw);
    let head = &raw[..raw.len().min(LONGEST_HEADERS)];
    let (headers, body) = [&b"\r\n\r\n"[..], b"\n\n"]
        .iter()
        .filter_map(|blank| memmem::find(head, blank).map(|at| (at, blank.len())))
        .min()
        .map(|(at, length)| (&raw[..at], &raw[at + length..]))
        .ok_or_else(|| Malformed::new("body", words::SYNTAX, "a part has no blank line behind its headers"))?;
    let body = body
        .strip_suffix(b"\r\n")
        .or_else(|| body.strip_suffix(b"\n"))
        .unwrap_or(body);
    Ok(Part {
        name: name_of(&String::from_utf8_lossy(headers)),
        body,
    })
}

fn name_of(headers: &str) -> Option<String> {
    let line = headers.lines().find(|line| {
        line.get(..20)
            .is_some_and(|name| name.eq_ignore_ascii_case("content-disposition:"))
    })?;
    line.split(';').map(str::trim).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("name")
            .then(|| value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(content_type: Option<&'a str>, body: &'a [u8]) -> Message<'a> {
        Message {
            content_type,
            body,
            received_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn names(content_type: Option<&str>, body: &str) -> Option<Vec<(Option<String>, String)>> {
        let parts = parts(&message(content_type, body.as_bytes()))?.unwrap();
        Some(
            parts
                .into_iter()
                .map(|part| (part.name, String::from_utf8(part.body.to_vec()).unwrap()))
                .collect(),
        )
    }

    #[test]
    fn parts_are_found_with_and_without_the_header() {
        let body = "--b1\r\nContent-Disposition: form-data; name=\"anpr.xml\"\r\n\r\n<a/>\r\n--b1\r\nContent-Type: image/jpeg\r\n\r\nx--y\r\n--b1--\r\n";
        let expected = Some(vec![
            (Some("anpr.xml".to_owned()), "<a/>".to_owned()),
            (None, "x--y".to_owned()),
        ]);

        assert_eq!(names(Some("multipart/form-data; boundary=b1"), body), expected);
        assert_eq!(
            names(Some("Multipart/Form-Data; charset=utf-8; boundary=\"b1\""), body),
            expected
        );
        assert_eq!(names(Some("application/xml"), body), expected);
        assert_eq!(names(Some("multipart/form-data; boundary=other"), body), expected);
        assert_eq!(names(None, &format!("\r\n{}", body.replace("\r\n", "\n"))), expected);
    }

    #[test]
    fn what_is_not_multipart_is_left_alone() {
        for body in ["", "<a/>", "{}", "--", "--b\n", "-- comment\nselect", "a=b&c=d"] {
            assert_eq!(names(None, body), None, "{body}");
            assert_eq!(names(Some("multipart/form-data; boundary=b1"), body), None, "{body}");
        }
    }

    #[test]
    fn a_cut_off_body_keeps_its_last_part() {
        let body = "--b1\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nhalf";

        assert_eq!(names(None, body), Some(vec![(Some("a".to_owned()), "half".to_owned())]));
    }

    #[test]
    fn parts_and_headers_are_bounded() {
        let many = "--b\r\nContent-Type: a\r\n\r\nx\r\n".repeat(MOST_PARTS + 1);
        let no_blank_line = "--b\r\nContent-Type: a\r\nno blank line";
        let long = format!("--b\r\nContent-Type: {}\r\n\r\nx", "a".repeat(LONGEST_HEADERS));

        for body in [many.as_str(), no_blank_line, long.as_str()] {
            assert!(parts(&message(None, body.as_bytes())).unwrap().is_err());
        }
    }
}

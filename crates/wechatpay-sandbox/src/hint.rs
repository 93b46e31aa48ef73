//! Guesses why a signature is wrong, for the developer who reads the ledger.
//!
//! Tries the strings that people sign by mistake: when one of them verifies, that was it. Called by `check.rs` after a
//! signature has failed, so its cost never meets a good call.

use http::HeaderMap;
use http::header::HOST;

use crate::check::{Authorization, Head};
use crate::seal::{self, VerifyingKey};

/// What is wrong, in words; and the string that was signed instead, where one of the guesses was right.
pub(crate) fn wrong_signature(
    key: &VerifyingKey,
    head: &Head,
    authorization: &Authorization<'_>,
    body: &[u8],
) -> (String, Option<String>) {
    let Authorization {
        nonce_str: nonce,
        timestamp,
        signature,
        ..
    } = *authorization;
    let method = head.method.as_str();
    let path = head.target.split('?').next().unwrap_or_default();
    let message =
        |method: &str, target: &str, body: &[u8]| seal::request_message(method, target, timestamp, nonce, body);
    let mut without_last_line_feed = message(method, &head.target, body);
    without_last_line_feed.pop();

    let mut mistakes = vec![
        ("without the line feed after the body", without_last_line_feed),
        ("without the body", message(method, &head.target, b"")),
        (
            "with the method in lower case",
            message(&method.to_lowercase(), &head.target, body),
        ),
        ("without the query string", message(method, path, body)),
        (
            "with a body that has no white space around it",
            message(method, &head.target, body.trim_ascii()),
        ),
    ];
    for scheme in ["https", "http"] {
        let url = format!("{scheme}://{}{}", host(&head.headers), head.target);
        mistakes.push((
            "with the whole URL instead of path and query",
            message(method, &url, body),
        ));
    }
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) {
        let compact = json.to_string();
        mistakes.push((
            "with the body serialised a second time",
            message(method, &head.target, compact.as_bytes()),
        ));
    }
    match mistakes.iter().find(|(_, message)| key.verifies(message, signature)) {
        Some((mistake, message)) => (
            format!("the key is right, but you signed {mistake}"),
            Some(String::from_utf8_lossy(message).into_owned()),
        ),
        None => (
            "either another key than serial_no names, or another string than the one shown here".into(),
            None,
        ),
    }
}

fn host(headers: &HeaderMap) -> &str {
    headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default()
}

//! A headless Chromium, driven through its DevTools pipe: for `page.rs`.
//!
//! No driver and no package beside the browser: messages are JSON, a zero byte ends each. Standard input and output become
//! the two descriptors that Chromium wants its messages on.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// One page in a browser of its own, with a profile of its own. Ends with the test, whatever happens.
pub(crate) struct Browser {
    child: Child,
    answers: BufReader<ChildStdout>,
    asked: u64,
    session: Value,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.send("Browser.close", json!({}), &Value::Null);
        let _ = self.child.wait();
    }
}

impl Browser {
    /// Opens a page of this width. `None`, said aloud, without Chromium; in CI that is an error.
    pub(crate) fn open(url: &str, width: u32) -> Option<Self> {
        let Some(program) = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find(is_there)
        else {
            assert!(std::env::var_os("CI").is_none(), "chromium must be there in CI");
            eprintln!("SKIPPED, SKIPPED, SKIPPED: there is no Chromium, so nobody looks at the page");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 >/dev/null 2>&1"#, program])
            .args(FLAGS)
            .arg(format!("--window-size={width},900"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut browser = Self {
            child,
            answers,
            asked: 0,
            session: Value::Null,
            _profile: profile,
        };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.ask("Target.attachToTarget", target)["sessionId"].take();
        browser.ask("Page.navigate", json!({ "url": url }));
        Some(browser)
    }

    /// The value of an expression in the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.ask("Runtime.evaluate", parameters);
        assert_eq!(answer["exceptionDetails"], Value::Null, "{expression}");
        answer["result"]["value"].take()
    }

    /// Waits until the expression is true in the page.
    pub(crate) fn wait_for(&mut self, expression: &str) {
        let looking = format!(
            "new Promise((done) => {{
                const end = Date.now() + 15000;
                const look = () => ({expression}) ? done(true) : Date.now() > end ? done(false) : setTimeout(look, 20);
                look();
            }})"
        );
        if self.evaluate(&looking) != true {
            let shown = self.evaluate("document.body.innerText");
            panic!("it never came to {expression}; the page shows {shown}");
        }
    }

    /// Writes what is to be seen, the whole page, as PNG.
    pub(crate) fn photograph(&mut self, file: &Path) {
        let parameters = json!({ "captureBeyondViewport": true });
        let picture = self.ask("Page.captureScreenshot", parameters);
        let picture = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, picture).unwrap();
    }

    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        let session = self.session.clone();
        self.send(method, parameters, &session).unwrap();
        loop {
            let mut answer = Vec::new();
            self.answers.read_until(0, &mut answer).unwrap();
            assert_eq!(answer.pop(), Some(0), "the browser ended before it answered {method}");
            let mut answer: Value = serde_json::from_slice(&answer).unwrap();
            // Everything else is an event.
            if answer["id"] == self.asked {
                assert_eq!(answer["error"], Value::Null, "{method}");
                return answer["result"].take();
            }
        }
    }

    fn send(&mut self, method: &str, parameters: Value, session: &Value) -> std::io::Result<()> {
        self.asked += 1;
        let mut message = json!({ "id": self.asked, "method": method, "params": parameters });
        if !session.is_null() {
            message["sessionId"] = session.clone();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.child.stdin.as_mut().unwrap().write_all(&bytes)
    }
}

fn is_there(program: &&str) -> bool {
    let version = Command::new(program).arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

/// Quiet, and without a sandbox of its own, which a container does not allow: it sees this test's page alone.
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--lang=zh-CN",
    "--remote-debugging-pipe",
];

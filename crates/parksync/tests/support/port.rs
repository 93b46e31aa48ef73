//! Free ports below those that the system gives to outgoing connections, so that a server that was killed finds its port again.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 10_240;
const PORTS: u16 = 20_000;

/// A port that nobody listens on. Each process begins at another one.
pub(crate) fn free() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() * 97 % u32::from(PORTS)).unwrap();
    loop {
        let port = FIRST + (start + GIVEN.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

//! Every bound of the service in one place, and what they owe each other.

use std::time::Duration;

use jiff::SignedDuration;

/// Largest message of a gate. Cameras put pictures into their messages, base64 in JSON.
pub const GATE_BODY_BYTES: usize = 8 * 1024 * 1024;
/// Largest batch on `/v1/events`.
pub const EVENTS_BODY_BYTES: usize = 2 * 1024 * 1024;
/// Largest body of the other requests.
pub const ADMIN_BODY_BYTES: usize = 256 * 1024;
/// Requests that are worked on at one time; more are told to come back.
pub const REQUESTS: usize = 1024;
/// A body up to this size needs no room of its own.
pub const SMALL_BODY_BYTES: usize = 64 * 1024;
/// Memory for all larger bodies together, in KiB; beyond it senders are told to come back.
pub const BODIES_KIB: u32 = 256 * 1024;
/// Connections from one address. A car park behind one address has dozens of cameras, not thousands.
pub const CONNECTIONS_PER_PEER: usize = CONNECTIONS / 4;
/// How long a new connection may stay silent before its first request.
pub const FIRST_BYTE: Duration = Duration::from_secs(10);
/// Connections that are open at one time; more wait in the system's queue.
pub const CONNECTIONS: usize = 4096;
/// How long a connection may stay without a request. Cameras with heartbeats send one every 5 to 30 s.
pub const KEEP_ALIVE: Duration = Duration::from_secs(35);
/// Gates whose clocks are watched.
pub const GATES: usize = 20_000;
/// Plates that one request may bind.
pub const PLATES_PER_MEMBER: usize = 20;
/// Members in one page of a list.
pub const MEMBERS_PER_PAGE: u32 = 500;
/// How long a request may take before its connection is given up. A camera declares the server dead after a few seconds.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Lanes taken in one claim.
pub const CLAIM: u32 = 256;
/// How long a claim of a lane is good for. A node that dies is taken over when it ends.
pub const LEASE: SignedDuration = SignedDuration::from_secs(15);
/// What must be left of a claim beyond the deadline of a request before it is sent: time for clocks, commits and settling.
pub const LEASE_MARGIN: Duration = Duration::from_secs(2);
/// The longest deadline that a request may be given.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(12);
/// How often a node says that it lives, and looks for claims that ended.
pub const BEAT: Duration = Duration::from_secs(1);
/// A node that was not heard of for so long does not count as one that delivers.
pub const NODE_SILENT: SignedDuration = SignedDuration::from_secs(5);
/// A node whose clocks show a longer gap than this between two looks stood still: all its claims count as lost. It looks once a beat.
pub const FROZEN_AFTER: Duration = Duration::from_secs(2);
/// How wrong the clock of a node may be: what is told again waits for a late call by the clocks of two nodes.
pub const NODE_CLOCK: SignedDuration = SignedDuration::from_secs(20);
/// How long a command watches the nodes to see how many calls they make a second: each is heard of at least once meanwhile.
pub const NODE_WATCH: Duration = Duration::from_millis(2_200);
/// How long the worker rests at most before it looks at the store again: the command line may have written.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a stop tries to write down what the last calls came to.
pub const SETTLE_AT_STOP: Duration = Duration::from_secs(10);
/// What a sender is told to wait when the store cannot take its message.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);

const _: () = assert!(ADMIN_BODY_BYTES < EVENTS_BODY_BYTES && EVENTS_BODY_BYTES < GATE_BODY_BYTES);
const _: () = assert!(REQUESTS <= CONNECTIONS);
const _: () = assert!(RETRY_AFTER.as_secs() < REQUEST_DEADLINE.as_secs());
// One body of the largest kind always fits, or it would wait for ever.
const _: () = assert!(GATE_BODY_BYTES / 1024 < BODIES_KIB as usize);
// A node must never still be sending when its claim ends.
const _: () = assert!(REQUEST_TIMEOUT_MAX.as_secs() + LEASE_MARGIN.as_secs() < LEASE.as_secs() as u64);
// A gap that is too short to be noticed fits into the margin.
const _: () =
    assert!(FROZEN_AFTER.as_millis() <= LEASE_MARGIN.as_millis() && BEAT.as_millis() < FROZEN_AFTER.as_millis());
// A word of the store outlasts beats that are late.
const _: () = assert!(NODE_SILENT.as_secs() as u64 > 2 * BEAT.as_secs());
// Take-over within 20 s: the claim ends, and the others look for it.
const _: () = assert!(LEASE.as_secs() as u64 + 2 * BEAT.as_secs() <= 20);

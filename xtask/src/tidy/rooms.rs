//! The rooms and who may import what: the table of the house style, as data.
//!
//! A room is some modules of a crate. Modules that the table does not name belong to the crate's first room. The crate's
//! root (`lib.rs`, `main.rs`) wires rooms together and may name them all. Called by `tidy`.

use super::imports::{paths, without_tests};
use super::{File, Finding};

struct Room {
    /// What to call it in a message.
    name: &'static str,
    /// Where its crate's source lies.
    source: &'static str,
    /// Its modules; none means the rest of the crate.
    modules: &'static [&'static str],
    /// Paths that it must not name, in groups.
    never: &'static [&'static [&'static str]],
    /// Modules of it that may name one of these paths all the same.
    except: &'static [(&'static str, &'static str)],
}

const SDK: &str = "crates/wechatpay/src/";
const SANDBOX: &str = "crates/wechatpay-sandbox/src/";
const SERVICE: &str = "crates/parksync/src/";
const VECTORS: &str = "vectors/src/";

const CLOCK: &[&str] = &["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"];
const SYSTEM: &[&str] = &["std::fs", "std::net", "std::env", "std::process", "std::thread"];
const NETWORK: &[&str] = &["tokio", "hyper", "hyper_util", "hyper_rustls", "reqwest", "axum"];
const SQL: &[&str] = &["rusqlite", "tokio_postgres", "deadpool_postgres", "sqlx"];
const WECHAT: &[&str] = &["wechatpay", "wechatpay_sandbox"];
const TOP: &[&str] = &["crate::cli", "crate::service", "crate::demo", "crate::rehearse"];
/// For the faces alone: what is stored, told in sentences.
const TOLD: &[&str] = &["crate::trace"];
const SETTINGS: &[&str] = &["crate::config", "crate::metrics", "crate::clock"];

static ROOMS: [Room; 12] = [
    Room {
        name: "the SDK's core",
        source: SDK,
        modules: &[],
        never: &[
            NETWORK,
            CLOCK,
            &[
                "crate::api",
                "crate::client",
                "crate::blocking",
                "crate::transport",
                "crate::platform",
            ],
            &["wechatpay_sandbox"],
        ],
        except: &[],
    },
    Room {
        name: "the SDK's edge",
        source: SDK,
        modules: &[
            "client",
            "blocking",
            "transport",
            "platform",
            "call",
            "chain",
            "indexed",
        ],
        never: &[&["crate::api", "wechatpay_sandbox"]],
        except: &[],
    },
    Room {
        name: "wechatpay::api",
        source: SDK,
        modules: &["api"],
        never: &[&["crate::sign", "crate::verify", "crate::transport", "wechatpay_sandbox"]],
        except: &[],
    },
    Room {
        name: "the sandbox",
        source: SANDBOX,
        modules: &[],
        never: &[&["wechatpay", "parksync", "wechatpay_vectors"]],
        except: &[],
    },
    Room {
        name: "the vectors' checker",
        source: VECTORS,
        modules: &[],
        never: &[WECHAT, &["parksync", "aws_lc_rs"]],
        except: &[],
    },
    Room {
        name: "domain",
        source: SERVICE,
        modules: &["domain"],
        never: &[
            &["crate::ingest", "crate::store", "crate::delivery", "crate::web"],
            TOP,
            TOLD,
            SETTINGS,
            WECHAT,
            SQL,
            NETWORK,
            SYSTEM,
            CLOCK,
        ],
        except: &[],
    },
    Room {
        name: "ingest",
        source: SERVICE,
        modules: &["ingest"],
        never: &[
            &["crate::store", "crate::delivery", "crate::web"],
            TOP,
            TOLD,
            SETTINGS,
            WECHAT,
            SQL,
            NETWORK,
            SYSTEM,
            CLOCK,
        ],
        except: &[],
    },
    Room {
        name: "store",
        source: SERVICE,
        modules: &["store"],
        never: &[&["crate::ingest", "crate::delivery", "crate::web"], TOP, TOLD, WECHAT],
        except: &[],
    },
    Room {
        name: "delivery",
        source: SERVICE,
        modules: &["delivery"],
        never: &[&["crate::ingest", "crate::web"], TOP, TOLD, WECHAT],
        except: &[("delivery::courier", "wechatpay")],
    },
    Room {
        name: "web",
        source: SERVICE,
        modules: &["web"],
        never: &[
            &["crate::delivery", "crate::store::sqlite", "crate::store::postgres"],
            TOP,
            WECHAT,
            SQL,
        ],
        except: &[("web::notify", "wechatpay::notify")],
    },
    Room {
        name: "trace",
        source: SERVICE,
        modules: &["trace"],
        never: &[
            &[
                "crate::ingest",
                "crate::store::sqlite",
                "crate::store::postgres",
                "crate::delivery",
                "crate::web",
            ],
            TOP,
            SETTINGS,
            WECHAT,
            SQL,
            NETWORK,
            SYSTEM,
            CLOCK,
        ],
        except: &[],
    },
    Room {
        // Every room may ask it, so it must know none of them.
        name: "sabotage",
        source: SERVICE,
        modules: &["sabotage"],
        never: &[
            &[
                "crate::domain",
                "crate::ingest",
                "crate::store",
                "crate::delivery",
                "crate::web",
            ],
            TOP,
            TOLD,
            SETTINGS,
            WECHAT,
            SQL,
            NETWORK,
            CLOCK,
        ],
        except: &[],
    },
];

/// Every import of the file that its room does not allow.
pub(super) fn check(file: &File) -> Vec<Finding> {
    let Some((room, module)) = room_of(&file.path) else {
        return Vec::new();
    };
    let module: Vec<&str> = module.iter().map(String::as_str).collect();
    let named = paths(without_tests(&file.text), &module);
    let forbidden = named.iter().filter_map(|path| {
        let never = room
            .never
            .iter()
            .copied()
            .flatten()
            .find(|never| names(&path.segments, never))?;
        let excepted = |(owner, path_allowed): &(&str, &str)| {
            starts_with(&module, owner) && starts_with(&path.segments, path_allowed)
        };
        (!room.except.iter().any(excepted)).then(|| {
            let what = format!(
                "{} must not name {}: {never} is out of bounds",
                room.name,
                path.segments.join("::")
            );
            Finding::rule(&file.path, path.line, what)
        })
    });
    forbidden.collect()
}

/// The room of a source file, and the file's module path. Roots, tests and files outside of the table have none.
fn room_of(path: &str) -> Option<(&'static Room, Vec<String>)> {
    let source = [SDK, SANDBOX, SERVICE, VECTORS]
        .into_iter()
        .find(|source| path.starts_with(source))?;
    let inner = path.strip_prefix(source)?.strip_suffix(".rs")?;
    let module: Vec<String> = inner.split('/').map(str::to_owned).collect();
    let is_root = module.len() == 1 && matches!(module[0].as_str(), "lib" | "main");
    let is_test = module.last().is_some_and(|last| last == "tests");
    if is_test || (is_root && matches!(source, SDK | SERVICE)) {
        return None;
    }
    let rooms = || ROOMS.iter().filter(|room| room.source == source);
    let named = rooms().find(|room| room.modules.iter().any(|owner| starts_with(&module, owner)));
    Some((named.or_else(|| rooms().find(|room| room.modules.is_empty()))?, module))
}

/// Whether the path begins with `never`, or, for a call like `Instant::now`, holds it anywhere.
fn names(segments: &[String], never: &str) -> bool {
    let is_type = never.starts_with(|first: char| first.is_ascii_uppercase());
    starts_with(segments, never) || (is_type && (1..segments.len()).any(|at| starts_with(&segments[at..], never)))
}

fn starts_with(segments: &[impl AsRef<str>], prefix: &str) -> bool {
    let mut segments = segments.iter().map(AsRef::as_ref);
    prefix.split("::").all(|part| segments.next() == Some(part))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::File;

    /// The findings of one file of one line.
    fn found(path: &str, text: &str) -> Vec<String> {
        check(&File {
            path: path.to_owned(),
            text: text.to_owned(),
        })
        .iter()
        .map(ToString::to_string)
        .collect()
    }

    #[track_caller]
    fn refused(path: &str, text: &str) {
        assert_eq!(found(path, text).len(), 1, "{path} may say {text}");
    }

    #[track_caller]
    fn allowed(path: &str, text: &str) {
        assert_eq!(found(path, text), [] as [String; 0]);
    }

    #[test]
    fn a_bad_import_is_found_and_said_where() {
        assert_eq!(
            found(
                "crates/parksync/src/domain/plate.rs",
                "//! A plate.\n\nuse crate::store::Store;\n"
            ),
            [
                "crates/parksync/src/domain/plate.rs:3: domain must not name crate::store::Store: crate::store is out of bounds"
            ]
        );
    }

    #[test]
    fn the_core_of_the_sdk_knows_no_edge_no_clock_and_no_api() {
        let core = "crates/wechatpay/src/sign.rs";
        refused(core, "use tokio::sync::Mutex;");
        refused(core, "use crate::client::Client;");
        refused(core, "use super::transport::Transport;");
        refused(core, "fn f() { let _ = std::time::SystemTime::now(); }");
        refused(core, "fn f() { let _ = Timestamp::now(); }");
        refused(core, "use crate::{error::Error, api::business_circle};");
        refused("crates/wechatpay/src/anything_new.rs", "use hyper_util::client;");
        allowed(
            core,
            "use crate::{error::Error, keys}; use http::Method; use std::time::Duration;",
        );
        allowed(
            "crates/wechatpay/src/client.rs",
            "use tokio::sync::Semaphore; use crate::sign; Timestamp::now();",
        );
        refused("crates/wechatpay/src/client.rs", "use crate::api::BusinessCircle;");
        refused("crates/wechatpay/src/api/business_circle.rs", "use crate::sign::sign;");
        allowed(
            "crates/wechatpay/src/api/business_circle.rs",
            "use crate::{client::Client, blocking, route::Route};",
        );
        allowed(
            "crates/wechatpay/src/lib.rs",
            "pub use crate::api::business_circle; pub use client::Client;",
        );
    }

    #[test]
    fn the_sandbox_and_the_checker_share_no_code_with_the_sdk() {
        refused("crates/wechatpay-sandbox/src/check.rs", "use wechatpay::sign::message;");
        refused("crates/wechatpay-sandbox/src/main.rs", "fn main() { wechatpay::run() }");
        allowed(
            "crates/wechatpay-sandbox/tests/vectors.rs",
            "use wechatpay_vectors::check;",
        );
        allowed(
            "crates/wechatpay-sandbox/src/main.rs",
            "use wechatpay_sandbox::Sandbox;",
        );
        refused("vectors/src/kinds.rs", "use aws_lc_rs::rsa::KeyPair;");
        refused("crates/wechatpay/src/sign.rs", "use wechatpay_sandbox::Sandbox;");
    }

    #[test]
    fn the_rooms_of_the_service_look_one_way() {
        let room = |file: &str| format!("crates/parksync/src/{file}.rs");
        refused(&room("domain"), "use wechatpay::Client;");
        refused(&room("domain/gate"), "use tokio::time;");
        refused(&room("domain/gate"), "fn f() { jiff::Zoned::now(); }");
        allowed(
            &room("domain/gate"),
            "use jiff::Timestamp; use super::plate::Plate; use crate::limits;",
        );
        refused(&room("ingest/vzenith"), "use crate::store::Store;");
        refused(&room("ingest"), "use super::web::events;");
        allowed(
            &room("ingest/vzenith"),
            "use crate::domain::plate::Plate; use serde_json::Value;",
        );
        refused(&room("store"), "use wechatpay::Error;");
        refused(&room("store/sqlite"), "use crate::delivery::worker;");
        allowed(
            &room("store/sqlite"),
            "use rusqlite::Connection; use crate::domain::plate::Plate;",
        );
        refused(&room("delivery/worker"), "use wechatpay::Client;");
        refused(&room("delivery/worker"), "use crate::web::page;");
        allowed(&room("delivery/courier"), "use wechatpay::Client;");
        refused(&room("delivery/courier"), "use crate::ingest::parse;");
        refused(&room("web/events"), "use crate::store::sqlite::Sqlite;");
        refused(&room("web/events"), "use wechatpay::notify::open;");
        allowed(
            &room("web/notify"),
            "use wechatpay::notify::open; use crate::store::Store;",
        );
        refused(&room("web/notify"), "use wechatpay::Client;");
        refused(&room("web"), "use crate::cli::serve;");
        allowed(
            &room("cli/serve"),
            "use crate::{store::sqlite::Sqlite, web, service}; use wechatpay::Client;",
        );
        allowed(&room("service"), "use crate::{delivery::worker, store, web};");
        for top in ["cli/demo", "demo/day", "rehearse"] {
            allowed(
                &room(top),
                "use crate::{cli, demo, rehearse, service, trace, sabotage};",
            );
        }
        refused(&room("web"), "use crate::rehearse::run;");
        refused(&room("delivery/worker"), "use crate::demo::day;");
    }

    #[test]
    fn visits_are_told_by_the_faces_and_faults_are_known_to_all() {
        let room = |file: &str| format!("crates/parksync/src/{file}.rs");
        allowed(
            &room("trace"),
            "use crate::domain::story::clock; use crate::store::Entry;",
        );
        refused(&room("trace"), "use crate::store::sqlite::SqliteStore;");
        for face in ["web/outbox", "cli/visits"] {
            allowed(&room(face), "use crate::trace;");
        }
        for other in ["domain/story", "ingest", "store/sqlite/trace", "delivery/worker"] {
            refused(&room(other), "use crate::trace;");
        }
        for any in [
            "domain/presence",
            "ingest",
            "store/sqlite",
            "delivery/worker",
            "web",
            "cli",
        ] {
            allowed(&room(any), "use crate::sabotage::{self, Sabotage};");
        }
        allowed(&room("sabotage"), "use std::cell::Cell; use std::sync::OnceLock;");
        refused(&room("sabotage"), "use crate::domain::plate::Plate;");
    }

    #[test]
    fn tests_and_comments_may_name_anything() {
        allowed(
            "crates/parksync/src/domain/plate.rs",
            "// use crate::store;\n\n#[cfg(test)]\nmod tests {\n use tokio::x;\n}\n",
        );
        allowed("crates/parksync/src/domain/plate/tests.rs", "use tokio::x;");
    }
}

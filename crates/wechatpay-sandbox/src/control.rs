//! The control port: everything that a test does through the library, over HTTP, for people and for other languages.
//!
//! Plain HTTP with JSON on the loopback, described by its own OpenAPI document, with a small page on top. It shows plates
//! and openids in clear, so it answers to local names and local pages only. Run by `server.rs`.

mod business;
mod callbacks;
mod ledger;
mod misbehave;
mod openapi;
mod parking;
mod problem;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use tokio::net::TcpListener;

use crate::platform::Platform;
use problem::Problem;

/// What every handler is given.
type Desk = State<Arc<Platform>>;

/// One thing that the port can do.
struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    /// Query parameters or members of the body: name, kind, whether it must be there, what it is.
    fields: &'static [Field],
    handler: fn() -> MethodRouter<Arc<Platform>>,
}

struct Field {
    name: &'static str,
    kind: Kind,
    required: bool,
    about: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Whole,
    Truth,
    Word(&'static [&'static str]),
}

const fn field(name: &'static str, kind: Kind, required: bool, about: &'static str) -> Field {
    Field {
        name,
        kind,
        required,
        about,
    }
}

/// Every operation, in the order of the document.
fn operations() -> impl Iterator<Item = &'static Operation> {
    [
        ledger::OPERATIONS,
        business::OPERATIONS,
        callbacks::OPERATIONS,
        parking::OPERATIONS,
        misbehave::OPERATIONS,
    ]
    .into_iter()
    .flatten()
}

/// Serves until it is dropped.
pub(crate) async fn run(listener: TcpListener, platform: Arc<Platform>) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let routes = operations().fold(Router::new(), |router, operation| {
        router.route(operation.path, (operation.handler)())
    });
    let router = routes
        .route("/", get(page))
        .route("/openapi.json", get(async || axum::Json(openapi::document())))
        .fallback(async || Problem::not_found("there is no such path; see /openapi.json"))
        .method_not_allowed_fallback(async || Problem::new(405, "method", "another method; see /openapi.json"))
        .layer(middleware::from_fn_with_state(port, local_only))
        .with_state(platform);
    // An error here is the listener's, and ends the port only.
    let _ = axum::serve(listener, router).await;
}

/// Refuses to answer under foreign names, and to foreign pages: a browser must not be talked into using this port.
async fn local_only(State(port): State<u16>, request: Request, next: Next) -> Response {
    if !comes_from_here(request.headers(), port) {
        return Problem::new(
            403,
            "foreign",
            "this port answers to http://127.0.0.1 and http://localhost only",
        )
        .into_response();
    }
    next.run(request).await
}

fn comes_from_here(headers: &HeaderMap, port: u16) -> bool {
    let text = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap_or_default())
    };
    let host_is_local = text(HOST).is_some_and(|host| is_local(host, port));
    let origin_is_local = text(ORIGIN).is_none_or(|origin| {
        let host = origin.strip_prefix("http://").unwrap_or_default();
        is_local(host, port)
    });
    host_is_local && origin_is_local
}

fn is_local(host: &str, port: u16) -> bool {
    ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .any(|name| host.strip_prefix(name) == Some(&format!(":{port}")))
}

async fn page() -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'",
        ),
    ];
    (headers, Html(include_str!("control/page.html")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_names_are_local() {
        for (host, local) in [
            ("127.0.0.1:80", true),
            ("localhost:80", true),
            ("[::1]:80", true),
            ("localhost:81", false),
            ("localhost", false),
            ("localhost.evil.example:80", false),
            ("evil.example:80", false),
        ] {
            assert_eq!(is_local(host, 80), local, "{host}");
        }
    }
}

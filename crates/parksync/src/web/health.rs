//! For machines: is it alive, can it take events, what has it done.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Web;
use super::problem::Problem;
use crate::metrics;

pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// Ready means that an event could be written down right now.
pub(super) async fn ready(State(web): State<Web>) -> Response {
    if let Err(problem) = web.pressure.check() {
        return problem.into_response();
    }
    if !web.pressure.writes() {
        // Not ready this once; the next look decides, or a balancer would never send the post that shows that it works again.
        web.pressure.wrote(true);
        return Problem::new(503, "store-failed", "the last events could not be written down").into_response();
    }
    match web.store.heartbeat(web.clock.now()).await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

pub(super) async fn metrics(State(web): State<Web>) -> Response {
    match tokio::try_join!(web.store.counters(), web.store.nodes()) {
        Ok((counters, nodes)) => {
            let mut text = String::new();
            match metrics::encode(&counters, &web.refused.all(), &web.clocks.all(), &nodes, &mut text) {
                Ok(()) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
                Err(_) => Problem::new(500, "metrics", "the metrics could not be written").into_response(),
            }
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

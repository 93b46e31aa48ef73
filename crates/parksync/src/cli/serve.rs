//! `parksync serve`: runs until told to stop.

use super::{Exit, Failure};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::Clock;
use crate::config::{Config, NodeRole};
use crate::service::stores::OpenError;
use crate::service::{Service, StartError};
use crate::store::{postgres, sqlite};

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// What this node does: `all`, `web` (takes events) or `worker` (delivers). Wins over [node] role
    #[arg(long)]
    role: Option<NodeRole>,
}

impl ServeArgs {
    /// As a setting in the environment.
    pub(super) fn settings(&self) -> Option<(String, String)> {
        let role = self.role?.as_str().to_owned();
        Some(("PARKSYNC__NODE__ROLE".to_owned(), role))
    }
}

/// The number of the signal on Linux.
const SIGXFSZ: i32 = 25;

pub(super) async fn run(config: &Config) -> Result<Exit, Failure> {
    // A limit on the size of files (`ulimit -f`) must fail a write, which senders hear of, and not kill the process.
    let _file_size = signal(SignalKind::from_raw(SIGXFSZ))?;
    let service = Service::start(config, Clock::system()).await.map_err(start_failure)?;
    eprintln!("parksync serves on http://{}  (stop with Ctrl-C)", service.address());
    let broken = tokio::select! {
        stopped = stop_signal() => stopped.map(|()| false)?,
        () = service.broken() => true,
    };
    eprintln!("stopping: calls under way finish first");
    tokio::select! {
        () = service.stop() => {}
        again = stop_signal() => {
            again?;
            return Err(Failure::new(Exit::Later, "stopped at once")
                .cause("a second signal came while calls were under way")
                .hint("nothing that was acknowledged is lost; those calls are made once more at the next start"));
        }
    }
    if broken {
        return Err(Failure::new(Exit::Unexpected, "the deliveries broke off")
            .hint("start it again; nothing that was acknowledged is lost"));
    }
    Ok(Exit::Done)
}

async fn stop_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

/// What to do about a service that does not start.
pub(crate) fn start_failure(error: StartError) -> Failure {
    let failure = |exit| Failure::new(exit, error.to_string());
    match &error {
        StartError::Key { .. } => failure(Exit::Configuration),
        StartError::Store(OpenError::Sqlite(sqlite::OpenError::Served { .. })) => {
            failure(Exit::Later).hint("stop the other one first, or give this one a database of its own")
        }
        StartError::Store(OpenError::Postgres(postgres::OpenError::Away(_))) => failure(Exit::Later)
            .hint("see that it runs and that [store] url names it; `serve` can simply be started again"),
        StartError::Store(OpenError::Postgres(postgres::OpenError::Older { .. })) => {
            failure(Exit::Configuration).hint("parksync migrate")
        }
        StartError::Store(_) | StartError::Circles(_) => failure(Exit::Configuration),
        StartError::Listen { .. } => {
            failure(Exit::Configuration).hint("set another address in [server] listen, or PARKSYNC__SERVER__LISTEN")
        }
        StartError::Thread(_) => failure(Exit::Unexpected),
    }
}

//! Accepts connections: bounded in number, in the time a head may take, and closed in good order.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::limits;

/// Serves until told to stop; then lets the requests under way finish, within their deadline.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(most_connections()));
    let peers = Peers::default();
    let open = GracefulShutdown::new();
    let service = TowerToHyperService::new(router);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: those that are open go on, and room comes back.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Answers are small and awaited: never hold them back to fill a packet.
        let _ = stream.set_nodelay(true);
        // One address must not take all places.
        let Some(place_of_peer) = peers.enter(peer.ip()) else {
            continue;
        };
        let service = service.clone();
        let watcher = open.watcher();
        tokio::spawn(async move {
            let _places = (place, place_of_peer);
            // Whoever connects and says nothing is gone soon; a camera that has spoken may stay for its next heartbeat.
            if !matches!(
                tokio::time::timeout(limits::FIRST_BYTE, stream.readable()).await,
                Ok(Ok(()))
            ) {
                return;
            }
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits::KEEP_ALIVE)
                .serve_connection(TokioIo::new(stream), service);
            // A peer that breaks off is its own business.
            let _ = watcher.watch(connection).await;
        });
    }
    drop(listener);
    if tokio::time::timeout(limits::REQUEST_DEADLINE, open.shutdown())
        .await
        .is_err()
    {
        warn!("requests were cut off at the end of their time");
    }
}

/// Waits for room first, so that a full house leaves new connections in the system's queue.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

/// As many as the bound allows, and as the system's limit on open files leaves beside database and calls.
fn most_connections() -> usize {
    const FOR_THE_REST: u64 = 200;
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(u64::MAX);
    let most = usize::try_from(files.saturating_sub(FOR_THE_REST))
        .unwrap_or(usize::MAX)
        .clamp(64, limits::CONNECTIONS);
    if most < limits::CONNECTIONS {
        warn!(
            files,
            most, "the limit on open files allows fewer connections; raise it with `ulimit -n` or LimitNOFILE"
        );
    }
    most
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Peers {
    fn enter(&self, peer: IpAddr) -> Option<PlaceOfPeer> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(peer).or_default();
        if *count >= limits::CONNECTIONS_PER_PEER {
            return None;
        }
        *count += 1;
        Some(PlaceOfPeer {
            peers: self.clone(),
            peer,
        })
    }
}

/// One place of one address; free again when dropped.
struct PlaceOfPeer {
    peers: Peers,
    peer: IpAddr,
}

impl Drop for PlaceOfPeer {
    fn drop(&mut self) {
        let mut peers = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

//! Sockets: a thread of its own, an accept loop, TLS, and connections that can be cut on purpose.
//!
//! The thread has its own runtime, so that the sandbox answers while a test blocks, and its timers do not follow a test's
//! paused clock. What is answered is decided in `platform.rs`. Started and stopped by `lib.rs`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::StartError;
use crate::control;
use crate::platform::{Ending, Platform};
use crate::push;
use crate::tls;

/// Running sockets. Dropping it closes them and waits until they are closed.
pub(crate) struct Server {
    /// Where it listens, without port 0.
    pub(crate) bound: Addresses,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Where to listen; port 0 takes a free one.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) https: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) control: Option<SocketAddr>,
}

impl Server {
    pub(crate) async fn start(
        platform: Arc<Platform>,
        tls: TlsAcceptor,
        addresses: Addresses,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen {
            address: addresses.https,
            source,
        };
        let (stop, stopped) = oneshot::channel();
        let (ready, bound) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("wechatpay-sandbox".into())
            .spawn(move || {
                runtime.block_on(async {
                    let (bound, listeners) = match Listeners::open(addresses).await {
                        Ok(opened) => opened,
                        Err(error) => return drop(ready.send(Err(error))),
                    };
                    if ready.send(Ok(bound)).is_err() {
                        return;
                    }
                    tokio::select! {
                        () = push::run(Arc::clone(&platform.world)) => {}
                        () = steer(listeners.control, Arc::clone(&platform)) => {}
                        () = accept(listeners.https, listeners.http, tls, platform) => {}
                        _ = stopped => {}
                    }
                });
            });
        let thread = thread.map_err(failed)?;
        let early = |_| failed(io::Error::other("the sandbox's thread ended early"));
        let bound = bound.await.map_err(early)??;
        Ok(Self {
            bound,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed already; a second one here would abort the test run.
            let _ = thread.join();
        }
    }
}

struct Listeners {
    https: TcpListener,
    http: TcpListener,
    control: Option<TcpListener>,
}

impl Listeners {
    /// The listeners, and where they listen.
    async fn open(addresses: Addresses) -> Result<(Addresses, Self), StartError> {
        let (https_bound, https) = listen(addresses.https).await?;
        let (http_bound, http) = listen(addresses.http).await?;
        let control = match addresses.control {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let bound = Addresses {
            https: https_bound,
            http: http_bound,
            control: control.as_ref().map(|(bound, _)| *bound),
        };
        let control = control.map(|(_, listener)| listener);
        Ok((bound, Self { https, http, control }))
    }
}

async fn listen(address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

/// The control port; without one nothing, for ever.
async fn steer(listener: Option<TcpListener>, platform: Arc<Platform>) {
    match listener {
        Some(listener) => control::run(listener, platform).await,
        None => std::future::pending().await,
    }
}

async fn accept(https: TcpListener, http: TcpListener, tls: TlsAcceptor, platform: Arc<Platform>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (stream, secure) = tokio::select! {
            accepted = https.accept() => (accepted, true),
            accepted = http.accept() => (accepted, false),
        };
        let Ok((stream, _)) = stream else {
            // Out of file handles, most likely: let some connections end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Answers are small and complete: waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let platform = Arc::clone(&platform);
        let tls = secure.then(|| tls.clone());
        connections.spawn(async move {
            let _permit = permit;
            match tls {
                None => serve(stream, platform).await,
                Some(tls) => {
                    let handshake = async {
                        match platform.faults.draw_handshake() {
                            None => tls.accept(stream).await.ok(),
                            Some(fault) => tls::spoil(stream, &platform.world.identity, fault).await,
                        }
                    };
                    if let Ok(Some(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                        serve(stream, platform).await;
                    }
                }
            }
        });
    }
}

/// What a fault does to a connection.
enum Cut {
    Reset,
    Close,
}

async fn serve(stream: impl Stream, platform: Arc<Platform>) {
    let keep_alive = platform.settings.keep_alive;
    let (cut, mut cuts) = mpsc::channel(1);
    let service = service_fn(|request| {
        let (platform, cut) = (Arc::clone(&platform), cut.clone());
        async move {
            let ending = match platform.serve(request).await {
                Ending::Reply(response) => return Ok::<_, Infallible>(response),
                Ending::Reset => Cut::Reset,
                Ending::Close => Cut::Close,
                Ending::Silence => {
                    tokio::time::sleep(MAX_SILENCE).await;
                    Cut::Close
                }
            };
            let _ = cut.send(ending).await;
            std::future::pending().await
        }
    });
    // The header timeout runs from the end of the answer before: it is the idle limit of a kept-alive connection.
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(keep_alive)
        .max_buf_size(MAX_HEAD)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let cut = tokio::select! {
        // An error here is the caller's: bad HTTP, or gone.
        _ = &mut connection => return,
        Some(cut) = cuts.recv() => cut,
    };
    let mut stream = connection.into_parts().io.into_inner();
    match cut {
        Cut::Reset => stream.reset(),
        Cut::Close => drop(stream.shutdown().await),
    }
}

/// A stream that can end with RST.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    fn reset(self);
}

impl Stream for TcpStream {
    fn reset(self) {
        // Without lingering, closing sends RST. Where the system refuses, the close is an orderly one.
        let _ = self.set_zero_linger();
    }
}

impl Stream for TlsStream<TcpStream> {
    fn reset(self) {
        self.into_inner().0.reset();
    }
}

const MAX_CONNECTIONS: usize = 4096;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Request line and headers.
const MAX_HEAD: usize = 64 * 1024;
/// No caller waits longer than this.
const MAX_SILENCE: Duration = Duration::from_secs(120);

//! Making connections, and noticing what happens on them.
//!
//! Lives here: a connector with a deadline, whose connections remember when they were made and whether a byte of the
//! current answer has come. Called by `transport`.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tower_service::Service;

use crate::error::BoxError;

/// A connector with a deadline over name look-up, TCP and TLS together.
#[derive(Clone)]
pub(crate) struct Connector<C> {
    pub(crate) connector: C,
    pub(crate) limit: Duration,
}

impl<C> Service<Uri> for Connector<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    type Response = TokioIo<Traced<C::Response>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Traced<C::Response>>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let limit = self.limit;
        let connecting = self.connector.call(uri);
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(Ok(stream)) => Ok(TokioIo::new(Traced {
                    stream: TokioIo::new(stream),
                    trace: Trace::new(),
                })),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(format!("not connected within {limit:?}").into()),
            }
        })
    }
}

/// How far the exchange on a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No byte of the answer has come.
    Asked,
    /// Some of it has.
    Answering,
}

/// The age and the stage of a connection, readable from outside.
#[derive(Clone)]
pub(crate) struct Trace {
    made_at: Instant,
    answering: Arc<AtomicBool>,
}

impl Trace {
    fn new() -> Trace {
        Trace {
            made_at: Instant::now(),
            answering: Arc::default(),
        }
    }

    /// Whether it was made before this moment. The pool also holds connections that have never served: those that came
    /// up too late for the call they were made for.
    pub(crate) fn is_older_than(&self, moment: Instant) -> bool {
        self.made_at < moment
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.answering.load(Ordering::Relaxed) {
            true => Stage::Answering,
            false => Stage::Asked,
        }
    }

    fn wrote(&self) {
        // HTTP/1.1 without pipelining: what is written after an answer is the next request.
        self.answering.store(false, Ordering::Relaxed);
    }

    fn read(&self) {
        self.answering.store(true, Ordering::Relaxed);
    }
}

/// A connection that keeps its [`Trace`].
pub(crate) struct Traced<S> {
    // hyper's own traits do not tell how much was read; tokio's do.
    stream: TokioIo<S>,
    trace: Trace,
}

impl<S: Connection> Connection for Traced<S> {
    fn connected(&self) -> Connected {
        self.stream.inner().connected().extra(self.trace.clone())
    }
}

impl<S: Read + Unpin> AsyncRead for Traced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.trace.read();
        }
        outcome
    }
}

impl<S: Write + Unpin> AsyncWrite for Traced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.trace.wrote();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.trace.wrote();
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }
}

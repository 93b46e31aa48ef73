//! The body of an answer: whole, in slow pieces, broken off, or blown up. Only bytes; made by `platform.rs`.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

pub(crate) struct AnswerBody {
    pieces: VecDeque<Bytes>,
    /// Blanks that follow the pieces.
    padding: u64,
    /// What Content-Length says; `None`: the body comes in chunks.
    promised: Option<u64>,
    gap: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    pub(crate) fn whole(body: Vec<u8>) -> Self {
        Self {
            promised: Some(body.len() as u64),
            pieces: Some(Bytes::from(body))
                .filter(|body| !body.is_empty())
                .into_iter()
                .collect(),
            padding: 0,
            gap: Duration::ZERO,
            pause: None,
        }
    }

    /// The same body in about ten pieces, over this time.
    pub(crate) fn slow(body: Vec<u8>, over: Duration) -> Self {
        let piece = body.len().div_ceil(PIECES).max(1);
        let pieces: VecDeque<_> = body.chunks(piece).map(Bytes::copy_from_slice).collect();
        let gap = over / u32::try_from(pieces.len().max(1)).unwrap_or(1);
        Self {
            pieces,
            gap,
            ..Self::whole(body)
        }
    }

    /// Half of the body; an empty one breaks off too.
    pub(crate) fn truncated(body: &[u8]) -> Self {
        let half = body[..body.len() / 2].to_vec();
        Self {
            promised: Some((body.len() as u64).max(2)),
            ..Self::whole(half)
        }
    }

    /// The body and so many blanks behind it, without a Content-Length.
    pub(crate) fn oversized(body: Vec<u8>, padding: u64) -> Self {
        Self {
            padding,
            promised: None,
            ..Self::whole(body)
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.gap.is_zero() && !self.pieces.is_empty() {
            let gap = self.gap;
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(gap)));
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        if let Some(piece) = self.pieces.pop_front() {
            self.promised = self
                .promised
                .map(|promised| promised.saturating_sub(piece.len() as u64));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if self.padding > 0 {
            let blanks = self.padding.min(BLANKS.len() as u64);
            self.padding -= blanks;
            let blanks = usize::try_from(blanks).unwrap_or(BLANKS.len());
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&BLANKS[..blanks])))));
        }
        if self.promised.is_some_and(|promised| promised > 0) {
            self.promised = None;
            return Poll::Ready(Some(Err(io::Error::other("broken off on purpose"))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.padding == 0 && self.promised.unwrap_or(0) == 0
    }

    fn size_hint(&self) -> SizeHint {
        self.promised.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

const PIECES: usize = 10;
static BLANKS: [u8; 16 * 1024] = [b' '; 16 * 1024];

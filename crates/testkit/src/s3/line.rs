//! The line to a server: slow, or broken now and then.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::rng::Rng;

#[derive(Debug)]
struct State {
    delay: Duration,
    cut_within: u64,
    connections: u64,
    rng: Rng,
}

/// Of so many connections, one is whole: whoever tries again often enough gets through.
const WHOLE_OF: u64 = 3;

/// All connections to one server. Clones are the same line.
#[derive(Clone, Debug)]
pub struct Line(Arc<Mutex<State>>);

impl Default for Line {
    fn default() -> Self {
        let state =
            State { delay: Duration::ZERO, cut_within: 0, connections: 0, rng: Rng::new(1) };
        Self(Arc::new(Mutex::new(state)))
    }
}

impl Line {
    pub fn delay(&self, by: Duration) {
        self.state().delay = by;
    }

    pub fn cut_within(&self, bytes: u64) {
        self.state().cut_within = bytes;
    }

    /// Waits as long as an answer takes.
    pub async fn wait(&self) {
        let delay = self.state().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    /// A connection, which perhaps is going to break.
    pub fn over(&self, socket: TcpStream) -> Connection {
        let mut state = self.state();
        let within = state.cut_within;
        state.connections += 1;
        let breaks = within > 0 && !state.connections.is_multiple_of(WHOLE_OF);
        let left = breaks.then(|| state.rng.below(within));
        if left.is_some() && state.rng.chance(50) {
            // Whoever closes it without lingering breaks it rudely. Where that is not to be had,
            // it is in good order.
            let _ = socket.set_zero_linger();
        }
        Connection { socket, left }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that takes so many bytes more.
pub struct Connection {
    socket: TcpStream,
    left: Option<u64>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(left) = self.left else {
            return Pin::new(&mut self.socket).poll_write(cx, buf);
        };
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        if room == 0 && !buf.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, &buf[..room]);
        if let Poll::Ready(Ok(n)) = &written {
            self.left = Some(left.saturating_sub(*n as u64));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

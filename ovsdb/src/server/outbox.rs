//! What a connection has still to be sent.
//!
//! The owner of the server writes to a socket itself, as much as the socket takes: to wake the connection's task for every
//! message would cost more than the message. The task writes the rest, and all of it over TLS.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daemon::stream::WriteHalf;
use tokio::sync::{Notify, oneshot};

use super::Message;

/// What the memory of a waiting message is taken to be besides its text.
const MESSAGE_OVERHEAD: usize = 128;
/// A part of a message of this length on is not copied, but shared with the others who get it.
const SHARED_FROM: usize = 1 << 12;
/// A piece of this length is not added to, so that it need not be copied to grow.
const FULL: usize = 1 << 16;
/// Pieces that are written with one system call.
const SLICES: usize = 16;

/// Text that waits.
#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    Shared(Arc<str>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(text) => text.as_bytes(),
        }
    }
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// How much of the first piece is written.
    written: usize,
    /// The size of the messages that wait, with their overhead.
    size: usize,
    /// Not here while the task writes.
    writer: Option<WriteHalf>,
    /// Nothing more will be sent.
    is_closed: bool,
}

impl State {
    fn push(&mut self, message: Message) {
        let (head, shared, tail) = message.into_parts();
        self.push_text(&head);
        if let Some(shared) = shared {
            if shared.len() < SHARED_FROM {
                self.push_text(&shared);
            } else {
                self.pieces.push_back(Piece::Shared(shared));
            }
        }
        self.push_text(tail);
    }

    fn push_text(&mut self, text: &str) {
        match self.pieces.back_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Own(bytes)) if bytes.len() < FULL => bytes.extend_from_slice(text.as_bytes()),
            _ => self.pieces.push_back(Piece::Own(text.as_bytes().to_vec())),
        }
    }

    /// Notes that so many bytes more are written.
    fn advance(&mut self, n: usize) {
        self.written += n;
        while let Some(first) = self.pieces.front()
            && self.written >= first.bytes().len()
        {
            self.written -= first.bytes().len();
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() {
            self.size = 0;
        }
    }

    /// Writes what the socket takes.
    fn write(&mut self) {
        while let (Some(writer), false) = (&self.writer, self.pieces.is_empty()) {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut skip = self.written;
            for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
                *slot = IoSlice::new(&piece.bytes()[skip..]);
                skip = 0;
            }
            let n = self.pieces.len().min(SLICES);
            match writer.try_write(&slices[..n]) {
                // An error that lasts is met, and told, by the task.
                Ok(0) | Err(_) => return,
                Ok(n) => self.advance(n),
            }
        }
    }
}

/// What the owner and the task share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something for the task to do.
    work: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The owner's end. When it is dropped, what waits is written, if the client takes it soon.
pub struct Outbox {
    shared: Arc<Shared>,
    limit: usize,
    /// Dropped with the outbox, which the task sees even while it writes.
    _end: oneshot::Sender<()>,
}

impl Outbox {
    /// Adds a message; false if too much waits. [`Outbox::push`] sets it on its way.
    pub fn send(&self, message: Message) -> bool {
        let mut state = self.shared.lock();
        if state.size > self.limit {
            return false;
        }
        state.size += message.len() + MESSAGE_OVERHEAD;
        state.push(message);
        true
    }

    /// Writes what waits.
    pub fn push(&self) {
        let mut state = self.shared.lock();
        state.write();
        if !state.pieces.is_empty() && state.writer.is_some() {
            self.shared.work.notify_one();
        }
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("waiting", &self.shared.lock().size).finish_non_exhaustive()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.push();
        self.shared.lock().is_closed = true;
        self.shared.work.notify_one();
    }
}

/// The task's end.
pub struct Drain {
    shared: Arc<Shared>,
}

/// What the task is to write.
pub enum Load {
    /// This text, by this writer, which is to be given back.
    Text(Vec<u8>, WriteHalf),
    /// Nothing for now.
    Nothing,
    /// Nothing any more.
    Closed,
}

impl Drain {
    /// Waits until there is something to do.
    pub async fn wait(&self) {
        self.shared.work.notified().await;
    }

    /// The next text to write.
    pub fn take(&self) -> Load {
        let mut state = self.shared.lock();
        let Some(writer) = state.writer.take() else { return Load::Nothing };
        let Some(first) = state.pieces.pop_front() else {
            state.writer = Some(writer);
            return if state.is_closed { Load::Closed } else { Load::Nothing };
        };
        let written = std::mem::take(&mut state.written);
        let text = match first {
            Piece::Own(bytes) if written == 0 => bytes,
            other => other.bytes()[written..].to_vec(),
        };
        state.size = state.size.saturating_sub(text.len() + MESSAGE_OVERHEAD);
        if state.pieces.is_empty() {
            state.size = 0;
        }
        Load::Text(text, writer)
    }

    /// Takes the writer for a message of the task's own, if nothing else is on its way.
    pub fn take_writer(&self) -> Option<WriteHalf> {
        self.shared.lock().writer.take()
    }

    /// Gives the writer back.
    pub fn give_back(&self, writer: WriteHalf) {
        self.shared.lock().writer = Some(writer);
    }
}

/// Both ends for a connection, and what tells the task when the owner's is dropped.
pub fn outbox(writer: WriteHalf, limit: usize) -> (Outbox, Drain, oneshot::Receiver<()>) {
    let shared = Arc::new(Shared::default());
    shared.lock().writer = Some(writer);
    let (ended, end) = oneshot::channel();
    (Outbox { shared: shared.clone(), limit, _end: ended }, Drain { shared }, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, shared: &str) -> Message {
        Message::notification(text, &[], shared.into())
    }

    #[test]
    fn pieces_are_joined_unless_they_are_long() {
        let mut state = State::default();
        let long = "x".repeat(SHARED_FROM);
        for shared in ["1", "2", &long, "3"] {
            state.push(message("m", shared));
        }
        let lengths: Vec<usize> = state.pieces.iter().map(|piece| piece.bytes().len()).collect();
        let all: usize = lengths.iter().sum();
        assert_eq!((lengths.len(), lengths[1]), (3, long.len()));
        state.advance(lengths[0] + 7);
        assert_eq!((state.written, state.pieces.len()), (7, 2));
        state.advance(all - lengths[0] - 7);
        assert_eq!((state.written, state.pieces.len(), state.size), (0, 0, 0));
        (0..FULL).for_each(|_| state.push_text("ab"));
        assert_eq!(state.pieces.len(), 2);
    }
}

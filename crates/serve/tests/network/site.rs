//! A server over a replica in memory.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use serve::{Handlers, Limits};
use testkit::process::wait_until;

use crate::client::Client;
use crate::memory::{Memory, Session};
use crate::server::Server;
pub use crate::server::{LIMIT, data, limits};

/// A running server, and what its sessions have kept.
pub struct Site {
    pub memory: Arc<Mutex<Memory>>,
    server: Server,
}

impl Deref for Site {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

impl Site {
    pub fn start() -> Self {
        Self::with(limits())
    }

    pub fn with(limits: Limits) -> Self {
        let memory = Arc::new(Mutex::new(Memory::default()));
        let begin = memory.clone();
        let handlers: Handlers = Box::new(move || Box::new(Session::begin(&begin)));
        Self { memory, server: Server::of(limits, handlers) }
    }

    /// A connection that has read the greeting.
    pub fn client(&self) -> Client {
        let mut client = Client::connect(self.plain);
        client.greeting();
        client
    }

    /// A connection that has logged in.
    pub fn master(&self) -> Client {
        let mut client = self.client();
        client.log_in();
        client
    }

    /// Waits until the server has read the heads of so many message files.
    pub fn await_files(&self, count: usize) {
        assert!(wait_until(LIMIT, || self.memory.lock().expect("no panic").files == count));
    }

    /// Waits until so many sessions are over.
    pub fn await_over(&self, count: usize) {
        assert!(wait_until(LIMIT, || self.memory.lock().expect("no panic").over == count));
    }
}

//! A line to a server on which it is counted how often a client has to wait for an answer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Takes connections to a server, as long as the process runs.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    counts: Arc<Counts>,
}

/// What is counted of all connections.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    trips: AtomicU64,
}

impl Relay {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn start(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, counts) = (listener.local_addr()?, Arc::new(Counts::default()));
        let counted = Arc::clone(&counts);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                counted.connections.fetch_add(1, Ordering::Relaxed);
                let counted = Arc::clone(&counted);
                // A connection that breaks is gone for both ends.
                thread::spawn(move || pass(&client, to, &counted));
            }
        });
        Ok(Self { address, counts })
    }

    /// Where to connect to instead.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that were made, and how often, on all of them, a client began to say something after
    /// the server had: each time, it has to wait for as long as the line is.
    pub fn counts(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.counts.connections), of(&self.counts.trips))
    }
}

fn pass(client: &TcpStream, to: SocketAddr, counts: &Counts) -> io::Result<()> {
    let server = TcpStream::connect(to)?;
    for end in [client, &server] {
        end.set_nodelay(true)?;
    }
    // Who greets is the server.
    let has_server_spoken = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            copy(&server, client, || has_server_spoken.store(true, Ordering::SeqCst));
        });
        copy(client, &server, || {
            if has_server_spoken.swap(false, Ordering::SeqCst) {
                counts.trips.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    Ok(())
}

/// Until one end is gone; `piece` is called before each piece is passed on.
fn copy(mut from: &TcpStream, mut to: &TcpStream, piece: impl Fn()) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        piece();
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn an_answer_that_is_waited_for_counts_once() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let relay = Relay::start(listener.local_addr().expect("bound")).expect("it listens");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
            while let Some(Ok(line)) = lines.next() {
                stream.write_all(format!("{line}!\r\n").as_bytes()).expect("it listens");
            }
        });
        let mut stream = TcpStream::connect(relay.address()).expect("it listens");
        let mut answers = BufReader::new(stream.try_clone().expect("a descriptor"));
        for word in ["one", "two", "three"] {
            // In two pieces or not, it is one question.
            stream.write_all(word.as_bytes()).expect("it listens");
            stream.write_all(b"\r\n").expect("it listens");
            let mut answer = String::new();
            answers.read_line(&mut answer).expect("an answer");
            assert_eq!(answer, format!("{word}!\r\n"));
        }
        drop((stream, answers));
        server.join().expect("no panic");
        assert_eq!(relay.counts(), (1, 3));
    }
}

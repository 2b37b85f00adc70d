//! A server of one's own on a free port, and what it said.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use peer::Identity;
use serve::{Config, Door, Handlers, Limits, Tls, Users, UsersFile};
use testkit::process::wait_until;

/// How long anything may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A running server. It is stopped when this is dropped.
pub struct Server {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    pub log: Arc<Mutex<Vec<String>>>,
    running: Running,
    _directory: tempfile::TempDir,
}

/// The server's own thread, and what it is told to end with.
struct Running {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// Limits that no test meets by accident, and a login that does not pause.
pub fn limits() -> Limits {
    Limits { login: LIMIT, drain: LIMIT, login_pause: Duration::ZERO, ..Limits::default() }
}

/// A file of the test's own certificate.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/network/data").join(name)
}

impl Server {
    /// One whose sessions are handled by these.
    pub fn of(limits: Limits, handlers: Handlers) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let users = directory.path().join("users");
        let mut file = Users::default();
        file.set("repl", b"secret").expect("a user");
        std::fs::write(&users, file.text()).expect("it can be written");
        std::fs::set_permissions(&users, PermissionsExt::from_mode(0o600)).expect("it is ours");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = log.clone();
        let config = Config {
            name: "replica.test.invalid".to_owned(),
            version: "1.0".to_owned(),
            identity: Some(
                Identity::read(&data("certificate.pem"), &data("key.pem")).expect("our own files"),
            ),
            users: UsersFile::open(&users).expect("a good file"),
            limits,
            deflate: true,
            handlers,
            watch: Box::new(move |event| {
                lines.lock().expect("no panic").push(event.to_string());
            }),
        };
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listeners = [(listen(), Tls::IfAsked), (listen(), Tls::AtOnce)];
        let [plain, tls] =
            [0, 1].map(|at: usize| listeners[at].0.local_addr().expect("it is bound"));
        let doors = listeners.map(|(listener, tls)| Door { listener, tls }).into();
        let (stop, signal) = UnixStream::pair().expect("two sockets");
        let thread = std::thread::spawn(move || {
            let heard = signal.try_clone().expect("another descriptor");
            let again = move || assert_eq!((&heard).read(&mut [0]).expect("it is there"), 1);
            serve::serve(doors, config, signal, again).expect("it serves");
        });
        let (stop, thread) = (Some(stop), Some(thread));
        let running = Running { stop, thread };
        Self { plain, tls, log, running, _directory: directory }
    }

    /// Tells the server to end, and to end at once when it is told again.
    pub fn stop(&self) {
        self.running.stop.as_ref().expect("it runs").write_all(b"x").expect("it listens");
    }

    /// Waits until the server has ended.
    pub fn join(&mut self) {
        self.running.thread.take().expect("it ran").join().expect("it did not panic");
    }

    /// Waits until the log has a line with that text, and returns the first.
    pub fn logged(&self, text: &str) -> String {
        let find = || {
            let lines = self.log.lock().expect("no panic");
            lines.iter().find(|line| line.contains(text)).cloned()
        };
        assert!(wait_until(LIMIT, || find().is_some()), "{text:?} not in {:#?}", self.log);
        find().expect("it was there")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut stop) = self.stop.take()
            && let Some(thread) = self.thread.take()
        {
            // Twice: whoever is in the middle of something is not waited for.
            let _ = stop.write_all(b"xx");
            let _ = thread.join();
        }
    }
}

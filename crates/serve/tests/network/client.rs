//! A client that says what a test wants, in the clear, by TLS or deflated.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use flate2::read::DeflateDecoder;
use flate2::{Compress, Compression, FlushCompress};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::site::{LIMIT, data};

/// A connection.
pub struct Client {
    pub socket: TcpStream,
    reader: Box<dyn BufRead>,
    writer: Writer,
}

enum Writer {
    Plain,
    Tls(Arc<std::sync::Mutex<StreamOwned<ClientConnection, TcpStream>>>),
    Deflate(Box<Compress>),
}

/// Both halves of a TLS connection read and write through one state.
struct TlsReader(Arc<std::sync::Mutex<StreamOwned<ClientConnection, TcpStream>>>);

impl Read for TlsReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").read(into)
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect_timeout(&address, LIMIT).expect("it listens");
        socket.set_read_timeout(Some(LIMIT)).expect("it can wait");
        socket.set_write_timeout(Some(LIMIT)).expect("it can wait");
        // What is not asked for stays in the socket: it may be for another layer to read.
        let raw = socket.try_clone().expect("another descriptor");
        let reader = Box::new(BufReader::with_capacity(1, raw));
        Self { socket, reader, writer: Writer::Plain }
    }

    /// Does the handshake, and trusts the test's own certificate only.
    pub fn start_tls(&mut self) {
        let mut roots = RootCertStore::empty();
        let certificate =
            CertificateDer::from_pem_file(data("certificate.pem")).expect("our own file");
        roots.add(certificate).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
        let name = ServerName::try_from("replica.test.invalid").expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        let socket = self.socket.try_clone().expect("another descriptor");
        let stream = Arc::new(std::sync::Mutex::new(StreamOwned::new(tls, socket)));
        self.reader = Box::new(BufReader::new(TlsReader(stream.clone())));
        self.writer = Writer::Tls(stream);
    }

    /// Compresses from now on.
    pub fn start_deflate(&mut self) {
        let socket = self.socket.try_clone().expect("another descriptor");
        self.reader = Box::new(BufReader::new(DeflateDecoder::new(socket)));
        self.writer = Writer::Deflate(Box::new(Compress::new(Compression::fast(), false)));
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the server takes it");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.writer {
            Writer::Plain => self.socket.write_all(bytes),
            Writer::Tls(stream) => {
                let mut stream = stream.lock().expect("no panic");
                stream.write_all(bytes)?;
                stream.flush()
            }
            Writer::Deflate(deflater) => {
                let mut out = Vec::with_capacity(bytes.len() + 1024);
                deflater.compress_vec(bytes, &mut out, FlushCompress::Sync).expect("it deflates");
                self.socket.write_all(&out)
            }
        }
    }

    /// The next line without its end; empty if there is none any more.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).expect("the server answers");
        String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).expect("the server answers");
        bytes
    }

    /// All that is still to come until the server closes the connection.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            // The server closed over bytes that it did not read: that is an end, too.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            // Nor does a compressed stream have an end of its own.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            result => drop(result.expect("the server closes")),
        }
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Says a line and returns the answer's last line.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.line()
    }

    /// The lines of the greeting, of which the last is its end.
    pub fn greeting(&mut self) -> Vec<String> {
        let mut lines = vec![self.line()];
        while !lines.last().is_some_and(|line| line.starts_with("* OK") || line.is_empty()) {
            lines.push(self.line());
        }
        lines
    }

    pub fn log_in(&mut self) {
        let answer = self.ask("AUTHENTICATE PLAIN AHJlcGwAc2VjcmV0");
        assert!(answer.starts_with("OK Success ("), "{answer}");
    }
}

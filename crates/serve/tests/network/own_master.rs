//! Our own master at the other end: deflated, by TLS, by STARTTLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use csync::command::{Command, Get};
use peer::{Account, Address, Limits, Secrecy, Session, SessionError, Trust};

use crate::site::{LIMIT, Site, data};

fn open(
    address: SocketAddr,
    secrecy: Secrecy,
    trust: Option<&Trust>,
    password: &str,
) -> Result<Session, SessionError> {
    open_as(&address.ip().to_string(), address, secrecy, trust, password)
}

fn open_as(
    host: &str,
    address: SocketAddr,
    secrecy: Secrecy,
    trust: Option<&Trust>,
    password: &str,
) -> Result<Session, SessionError> {
    let address = Address { host: host.to_owned(), port: address.port(), secrecy };
    let account = Account { name: "repl".to_owned(), password: password.as_bytes().to_vec() };
    Session::open(&address, &account, trust, Limits { login: LIMIT, silence: LIMIT }, true)
}

/// Asks for something, and takes leave.
fn talk(mut session: Session, site: &Site) {
    let get = Command::Get(Get::User("glad".into()));
    session.command(&get, &mut |_| {}).expect("an answer");
    session.close();
    site.logged("the master is done");
}

fn trust() -> Trust {
    Trust::read(&data("certificate.pem")).expect("our own file")
}

#[test]
fn a_session_is_compressed_or_encrypted() {
    let site = Site::start();
    let plain = open(site.plain, Secrecy::Required, None, "secret").expect("a session");
    assert!(plain.banner().deflate);
    talk(plain, &site);
    site.logged("repl: logged in");

    let site = Site::start();
    let secret = open(site.tls, Secrecy::AtOnce, Some(&trust()), "secret").expect("a session");
    talk(secret, &site);
    site.logged("repl: logged in, with TLS");
}

/// Stands between, and takes PLAIN out of the first banner: so does a server that wants TLS first.
fn strict(site: &Site) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut server = TcpStream::connect(site.plain).expect("it listens");
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a master");
        let mut banner = Vec::new();
        while !banner.windows(4).any(|four| four == b"* OK") || !banner.ends_with(b"\r\n") {
            let mut byte = [0];
            server.read_exact(&mut byte).expect("a banner");
            banner.push(byte[0]);
        }
        let text = String::from_utf8(banner).expect("text");
        let lines = text.split_inclusive("\r\n").filter(|line| !line.starts_with("* SASL"));
        client.write_all(lines.collect::<String>().as_bytes()).expect("it listens");
        let (mut from, mut to) = (
            client.try_clone().expect("another descriptor"),
            server.try_clone().expect("another descriptor"),
        );
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
        let _ = std::io::copy(&mut server, &mut client);
        let _ = client.shutdown(std::net::Shutdown::Write);
    });
    address
}

#[test]
fn a_session_begins_tls_where_that_is_wanted() {
    let site = Site::start();
    let session = open(strict(&site), Secrecy::Required, Some(&trust()), "secret");
    talk(session.expect("a session"), &site);
    site.logged("repl: logged in, with TLS");
}

#[test]
fn who_cannot_prove_himself_gets_no_password() {
    let site = Site::start();
    for (address, secrecy) in [(site.tls, Secrecy::AtOnce), (strict(&site), Secrecy::Required)] {
        // The certificate does not have that name.
        let opened = open_as("localhost", address, secrecy, Some(&trust()), "secret");
        let error = opened.map(drop).expect_err("nobody vouches for it");
        assert!(matches!(error, SessionError::Link(peer::LinkError::Tls(_))), "{error:?}");
    }
    let lines = site.log.lock().expect("no panic");
    assert!(!lines.iter().any(|line| line.contains("logged in")), "{lines:#?}");
}

#[test]
fn a_wrong_password_is_told() {
    let site = Site::start();
    let error = open(site.plain, Secrecy::Required, None, "wrong").map(drop);
    assert!(matches!(error, Err(SessionError::Login { .. })), "{error:?}");
}

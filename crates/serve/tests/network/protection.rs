//! TLS from the start, TLS on demand, and compression.

use std::io::Write;

use crate::client::Client;
use crate::site::Site;

/// Sends messages through all there is, and has one sent back.
fn round_trip(client: &mut Client, site: &Site) {
    let bodies: Vec<Vec<u8>> = [0_usize, 1, 65_536, 1_000_003]
        .iter()
        .map(|size| (0..*size).map(|at| (at * at % 253) as u8).collect())
        .collect();
    client.send(b"APPLY MESSAGE (");
    for (at, body) in bodies.iter().enumerate() {
        let space = if at == 0 { "" } else { " " };
        client
            .send(format!("{space}%{{default {} {}}}\r\n", "0".repeat(40), body.len()).as_bytes());
        client.send(body);
    }
    client.send(b")\r\n");
    assert_eq!(client.line(), "OK success");
    assert!(site.memory.lock().expect("no panic").messages == bodies);
    let size = 3_000_000;
    client.send(
        format!(
            "GET FETCH %(MBOXNAME a PARTITION default UNIQUEID x GUID {} UID {size})\r\n",
            "0".repeat(40)
        )
        .as_bytes(),
    );
    assert!(client.line().starts_with("* MESSAGE %{default "));
    let bytes = client.bytes(size);
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == (at % 1021 % 251) as u8));
    assert_eq!((client.line(), client.line()), (String::new(), "OK success".to_owned()));
    assert_eq!(client.ask("EXIT"), "OK Finished");
    assert_eq!(client.rest(), "");
}

#[test]
fn tls_from_the_start() {
    let site = Site::start();
    let mut client = Client::connect(site.tls);
    client.start_tls();
    let greeting = client.greeting();
    assert_eq!(greeting[0], "* SASL PLAIN");
    assert!(!greeting.iter().any(|line| line.contains("STARTTLS") || line.contains("COMPRESS")));
    assert_eq!(client.ask("AUTHENTICATE PLAIN AHJlcGwAc2VjcmV0"), "OK Success (tls protection)");
    assert!(client.ask("COMPRESS DEFLATE").starts_with("NO "));
    round_trip(&mut client, &site);
    site.logged("repl: logged in, with TLS");
}

#[test]
fn tls_on_demand_greets_again() {
    let site = Site::start();
    let mut client = site.client();
    assert_eq!(client.ask("STARTTLS"), "OK Begin TLS negotiation now");
    client.start_tls();
    assert_eq!(
        client.greeting(),
        ["* SASL PLAIN", "* SIEVE-MAILBOX", "* OK replica.test.invalid Cyrus sync server 1.0"]
    );
    assert_eq!(client.ask("STARTTLS"), "BAD Already did a successful Starttls");
    assert_eq!(client.ask("AUTHENTICATE PLAIN AHJlcGwAc2VjcmV0"), "OK Success (tls protection)");
    round_trip(&mut client, &site);
}

#[test]
fn a_master_that_has_logged_in_compresses() {
    let site = Site::start();
    assert_eq!(site.client().ask("COMPRESS DEFLATE"), "NO Please authenticate first");
    let mut client = site.master();
    assert_eq!(client.ask("STARTTLS"), "BAD Can't Starttls after authentication");
    assert_eq!(client.ask("COMPRESS DEFLATE"), "OK DEFLATE active");
    client.start_deflate();
    assert!(client.ask("COMPRESS DEFLATE").starts_with("NO Compression already active"));
    round_trip(&mut client, &site);
}

#[test]
fn what_is_compressed_may_follow_in_the_same_packet() {
    let site = Site::start();
    let mut client = site.master();
    let mut deflater = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    deflater.write_all(b"NOOP\r\n").expect("a Vec takes all");
    deflater.flush().expect("a Vec takes all");
    client.send(&[&b"COMPRESS DEFLATE\r\n"[..], deflater.get_ref()].concat());
    assert_eq!(client.line(), "OK DEFLATE active");
    client.start_deflate();
    assert_eq!(client.line(), "OK Noop completed");
}

#[test]
fn what_follows_starttls_in_the_clear_ends_the_session() {
    let site = Site::start();
    let mut client = site.client();
    client.send(b"STARTTLS\r\nAUTHENTICATE PLAIN AHJlcGwAc2VjcmV0\r\nGET USER a\r\n");
    assert_eq!(client.line(), "OK Begin TLS negotiation now");
    assert_eq!(client.rest(), "");
    site.logged("said more behind STARTTLS");
    assert_eq!(site.memory.lock().expect("no panic").begun, 0);
}

#[test]
fn what_is_no_tls_or_not_deflated_ends_the_session() {
    let site = Site::start();
    let mut client = Client::connect(site.tls);
    client.send(b"NOOP\r\nNOOP\r\n");
    client.rest();
    site.logged("TLS with the peer");
    let mut client = site.master();
    assert_eq!(client.ask("COMPRESS DEFLATE"), "OK DEFLATE active");
    client.send(b"GET USER alice\r\n");
    client.rest();
    site.logged("cannot be inflated");
}

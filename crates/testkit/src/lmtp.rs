//! A small blocking LMTP client (RFC 2033).

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A delivery that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum LmtpError {
    /// The server refused a command, or the delivery to one recipient.
    #[error("{step}: the server answered {reply}")]
    Refused {
        /// The command or recipient.
        step: String,
        /// The server's last line.
        reply: String,
    },
    /// The connection broke, or nothing came for too long.
    #[error("{step}: the connection failed")]
    Io {
        /// The command or recipient.
        step: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A connection to an LMTP server.
#[derive(Debug)]
pub struct LmtpClient {
    input: BufReader<TcpStream>,
    output: TcpStream,
}

impl LmtpClient {
    /// Connects, reads the greeting and says LHLO.
    pub fn connect(address: SocketAddr) -> Result<Self, LmtpError> {
        let step = format!("connect to {address}");
        let failed = |source| LmtpError::Io { step: step.clone(), source };
        let output = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
        output.set_nodelay(true).map_err(failed)?;
        output.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        output.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let input = BufReader::new(output.try_clone().map_err(failed)?);
        let mut client = Self { input, output };
        client.expect(&step, b'2')?;
        client.command("LHLO test.invalid", b'2')?;
        Ok(client)
    }

    /// Delivers one message to all recipients; an error if any of them does not get it.
    pub fn deliver(&mut self, recipients: &[&str], message: &[u8]) -> Result<(), LmtpError> {
        self.command("MAIL FROM:<sender@test.invalid>", b'2')?;
        for recipient in recipients {
            self.command(&format!("RCPT TO:<{recipient}>"), b'2')?;
        }
        self.command("DATA", b'3')?;
        let failed = |source| LmtpError::Io { step: "DATA".into(), source };
        self.output.write_all(&stuffed(message)).map_err(failed)?;
        let mut outcome = Ok(());
        for recipient in recipients {
            match self.expect(&format!("delivery to {recipient}"), b'2') {
                Err(refused @ LmtpError::Refused { .. }) => outcome = Err(refused),
                other => other?,
            }
        }
        outcome
    }

    fn command(&mut self, line: &str, wanted: u8) -> Result<(), LmtpError> {
        let failed = |source| LmtpError::Io { step: line.to_owned(), source };
        self.output.write_all(format!("{line}\r\n").as_bytes()).map_err(failed)?;
        self.expect(line, wanted)
    }

    /// Reads one reply of any number of lines, whose code must begin with that digit.
    fn expect(&mut self, step: &str, wanted: u8) -> Result<(), LmtpError> {
        let failed = |source| LmtpError::Io { step: step.to_owned(), source };
        loop {
            let mut line = Vec::new();
            self.input.read_until(b'\n', &mut line).map_err(failed)?;
            if line.is_empty() {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
            if line.get(3) == Some(&b'-') {
                continue;
            }
            if line.first() == Some(&wanted) {
                return Ok(());
            }
            let reply = String::from_utf8_lossy(&line).trim_end().to_owned();
            return Err(LmtpError::Refused { step: step.to_owned(), reply });
        }
    }
}

/// The message with dots doubled at line starts, and the line that ends it.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    if !wire.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled_and_the_end_is_marked() {
        assert_eq!(stuffed(b"a\r\n.\r\n..b"), b"a\r\n..\r\n...b\r\n.\r\n");
        assert_eq!(stuffed(b"a\r\n"), b"a\r\n.\r\n");
    }
}

//! Somebody who looks after his filters, through timsieved (RFC 5804).

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use crate::Outcome;
use crate::everyday::plain;

const SCRIPT: &str = "require \"fileinto\";\r\nif header :contains \"subject\" \"[list]\" \
                      { fileinto \"INBOX/Sent\"; }\r\n";

/// Puts a script there, and makes it the one that counts.
pub fn put_script(address: SocketAddr, user: &str) -> Outcome {
    let mut stream = TcpStream::connect(address)?;
    let mut replies = BufReader::new(stream.try_clone()?);
    answer(&mut replies)?;
    let script = format!("PUTSCRIPT \"filters\" {{{}+}}\r\n{SCRIPT}", SCRIPT.len());
    let login = format!("AUTHENTICATE \"PLAIN\" \"{}\"", plain("", user));
    for command in [login.as_str(), &script, "SETACTIVE \"filters\"", "LISTSCRIPTS", "LOGOUT"] {
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let said = answer(&mut replies)?;
        if !said.starts_with("OK") {
            return Err(format!("{command}: {said}").into());
        }
    }
    Ok(())
}

/// The last line of an answer.
fn answer(replies: &mut impl BufRead) -> Outcome<String> {
    loop {
        let mut line = String::new();
        if replies.read_line(&mut line)? == 0 {
            return Err("timsieved has closed the connection".into());
        }
        if ["OK", "NO", "BYE"].iter().any(|word| line.starts_with(word)) {
            return Ok(line);
        }
    }
}

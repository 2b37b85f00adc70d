//! Messages to test with: plausible ones made up, and real ones from a directory.

mod corpus;
mod generator;

pub use corpus::{CorpusError, load_corpus, real_corpus};
pub use generator::{MailGenerator, Sizes};

/// The same message with CRLF at the end of each line, whatever it had before.
pub fn with_crlf(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + message.len() / 32);
    let mut last = 0;
    for byte in message {
        if *byte == b'\n' && last != b'\r' {
            wire.push(b'\r');
        }
        wire.push(*byte);
        last = *byte;
    }
    wire
}

//! Notes: what is to be known about an account's objects and is not in their names.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use model::state::Digest;

use crate::error::{Result, VaultError};
use crate::keys::{NoteName, What};

/// The version of their form.
const FORMAT: u32 = 1;

/// How a verification was done that restored the newest snapshot, and compared it with what plain
/// tools make of the same objects.
pub const DRILL: &str = "drill";

/// A note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Version of this form. [`new`](Self::new) fills it in.
    format: u32,
    /// When it was written, seconds since 1970.
    pub at: i64,
    /// The machine that wrote it.
    pub host: String,
    /// The program that wrote it.
    pub program: String,
    /// What it is about.
    pub what: What,
    /// Names of objects of the account.
    #[serde(default)]
    pub names: Vec<String>,
    /// Of a verification: how many per cent of the messages were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Of a verification: [`DRILL`] if all was restored and compared; missing otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
    /// Of a verification: how much was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<u64>,
}

impl Note {
    /// A note about these objects.
    pub fn new(what: What, at: i64, host: &str, program: &str, names: Vec<String>) -> Self {
        let (host, program) = (host.to_owned(), program.to_owned());
        let (percent, how, findings) = (None, None, None);
        Self { format: FORMAT, at, host, program, what, names, percent, how, findings }
    }

    /// Its bytes, and the name that belongs to them.
    ///
    /// # Errors
    ///
    /// If it cannot be put as JSON.
    pub fn encode(&self) -> Result<(NoteName, Vec<u8>)> {
        let wrong = |error: serde_json::Error| VaultError::Note {
            object: format!("about {}", self.what),
            detail: error.to_string(),
        };
        let mut bytes = serde_json::to_vec(self).map_err(wrong)?;
        bytes.push(b'\n');
        let sha256 = Digest(Sha256::digest(&bytes).into());
        Ok((NoteName { at: self.at, what: self.what, sha256 }, bytes))
    }

    /// Reads a note.
    ///
    /// # Errors
    ///
    /// If its bytes are not those that its name speaks of, or of a later form.
    pub fn decode(object: &str, name: &NoteName, bytes: &[u8]) -> Result<Self> {
        let wrong = |detail: &str| VaultError::Note {
            object: object.to_owned(),
            detail: detail.to_owned(),
        };
        if Digest(Sha256::digest(bytes).into()) != name.sha256 {
            return Err(wrong("its SHA-256 is not the one in its name"));
        }
        let note: Self =
            serde_json::from_slice(bytes).map_err(|error| wrong(&error.to_string()))?;
        if note.format > FORMAT {
            return Err(wrong("a newer program wrote it"));
        }
        if note.what != name.what {
            return Err(wrong("it contradicts its name"));
        }
        Ok(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        Note::new(What::Dropped, 1_795_696_000, "mail1", "cylinder 0.1.0", vec!["a".to_owned()])
    }

    #[test]
    fn a_note_is_what_the_format_says_and_comes_back() {
        let (name, bytes) = note().encode().expect("a note");
        let text = String::from_utf8(bytes.clone()).expect("text");
        let want = "{\"format\":1,\"at\":1795696000,\"host\":\"mail1\",\
                    \"program\":\"cylinder 0.1.0\",\"what\":\"dropped\",\"names\":[\"a\"]}\n";
        assert_eq!(text, want);
        assert_eq!(Note::decode("x", &name, &bytes).expect("the same"), note());
    }

    #[test]
    fn a_changed_note_is_not_believed() {
        let (name, bytes) = note().encode().expect("a note");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            Note::decode("x", &name, &changed).expect_err("one bit is wrong");
        }
    }

    #[test]
    fn a_newer_note_is_told_from_a_broken_one() {
        let newer = Note { format: 2, ..note() };
        let (name, bytes) = newer.encode().expect("a note");
        let error = Note::decode("x", &name, &bytes).expect_err("newer");
        assert!(error.to_string().contains("newer"), "{error}");
    }
}

//! What SASL exchanges: bytes that travel as base64 and are nobody else's business.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A challenge or a response. It may hold a password, so it prints only its length.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SaslData(Vec<u8>);

impl SaslData {
    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads base64 (RFC 4648, section 4); `=` alone is an empty response (RFC 4959). `None` for
    /// anything else.
    pub fn decode(text: &[u8]) -> Option<Self> {
        let text = if text == b"=" { b"" } else { text };
        STANDARD.decode(text).ok().map(Self)
    }

    /// Appends the bytes as base64.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(STANDARD.encode(&self.0).as_bytes());
    }
}

impl fmt::Debug for SaslData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SaslData({} bytes)", self.0.len())
    }
}

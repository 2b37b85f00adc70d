//! What a login amounts to: SASL PLAIN (RFC 4616), and where it may be used.

use std::net::IpAddr;

/// What PLAIN says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plain<'r> {
    /// Who.
    pub name: &'r str,
    /// As it was typed.
    pub password: &'r [u8],
}

impl<'r> Plain<'r> {
    /// Reads a response: `[authzid] NUL authcid NUL password`. Nobody acts as somebody else here, so
    /// the first is empty or the same as the second.
    pub fn parse(response: &'r [u8]) -> Option<Self> {
        let mut parts = response.split(|byte| *byte == 0);
        let (as_whom, name, password) = (parts.next()?, parts.next()?, parts.next()?);
        let acts_alone = as_whom.is_empty() || as_whom == name;
        let name = std::str::from_utf8(name).ok()?;
        (acts_alone && parts.next().is_none()).then_some(Self { name, password })
    }
}

/// Whether a password may be said in the clear: nobody but this machine hears it.
pub(crate) fn is_private(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_three_parts() {
        let parse = |response: &'static str| {
            Plain::parse(response.as_bytes()).map(|plain| (plain.name, plain.password))
        };
        assert_eq!(parse("\0glad\0secret"), Some(("glad", &b"secret"[..])));
        assert_eq!(parse("glad\0glad\0s"), Some(("glad", &b"s"[..])));
        for wrong in ["", "glad", "\0glad", "iris\0glad\0s", "\0glad\0s\0", "\0glad\0s\0x"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
        assert!(Plain::parse(b"\0gl\xe4d\0s").is_none());
    }

    #[test]
    fn only_this_machine_hears_what_is_said_on_loopback() {
        for private in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
            assert!(is_private(private.parse().expect("an address")), "{private}");
        }
        for public in ["10.0.0.1", "192.0.2.7", "0.0.0.0", "fe80::1", "::ffff:10.0.0.1", "::"] {
            assert!(!is_private(public.parse().expect("an address")), "{public}");
        }
    }
}

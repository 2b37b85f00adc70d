//! Folder names as seen from their account.

/// What the names of deleted mailboxes start with, behind their domain.
const DELETED: &[u8] = b"DELETED.";

/// The name of a mailbox within its account: `INBOX`, `INBOX.Sent`, `DELETED.INBOX.Sent.6B0450F1`;
/// the internal name as it is where the account does not own it.
pub fn relative_name(name: &[u8], userid: &[u8]) -> Vec<u8> {
    let (local, domain) = match userid.iter().position(|byte| *byte == b'@') {
        Some(at) => (&userid[..at], Some(&userid[at + 1..])),
        None => (userid, None),
    };
    let name = match domain {
        Some(domain) => without_domain(name, domain),
        None => name,
    };
    let (deleted, inner) = match name.strip_prefix(DELETED) {
        Some(inner) => (DELETED, inner),
        None => (b"".as_slice(), name),
    };
    let owner: Vec<u8> = local.iter().map(|b| if *b == b'.' { b'^' } else { *b }).collect();
    let own = inner.strip_prefix(b"user.").and_then(|rest| rest.strip_prefix(owner.as_slice()));
    match own {
        Some(rest) if rest.is_empty() || rest.starts_with(b".") => {
            [deleted, b"INBOX", rest].concat()
        }
        _ => name.to_vec(),
    }
}

/// Whether somebody who types `pick` means this mailbox: by its internal name, its name within the
/// account, with or without INBOX, and with dots or slashes between levels.
pub fn is_named(name: &[u8], userid: &[u8], pick: &[u8]) -> bool {
    let relative = relative_name(name, userid);
    let dotted: Vec<u8> = pick.iter().map(|b| if *b == b'/' { b'.' } else { *b }).collect();
    let below = relative.strip_prefix(b"INBOX.".as_slice());
    [name, relative.as_slice()].contains(&pick)
        || [name, relative.as_slice()].contains(&dotted.as_slice())
        || below.is_some_and(|below| below == pick || below == dotted)
}

/// Whether an internal name, of whatever domain, is that of a deleted mailbox that is still kept.
pub(crate) fn is_deleted(name: &[u8]) -> bool {
    let local = name.iter().position(|byte| *byte == b'!').map_or(name, |at| &name[at + 1..]);
    local.starts_with(DELETED)
}

fn without_domain<'a>(name: &'a [u8], domain: &[u8]) -> &'a [u8] {
    let rest = name.strip_prefix(domain).and_then(|rest| rest.strip_prefix(b"!"));
    rest.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_folders_begin_with_inbox() {
        for (name, userid, relative) in [
            ("user.glad", "glad", "INBOX"),
            ("user.glad.Sent.2020", "glad", "INBOX.Sent.2020"),
            ("user.glad2.Sent", "glad", "user.glad2.Sent"),
            ("user.fred^smith.a", "fred.smith", "INBOX.a"),
            ("other.com!user.ann.x", "ann@other.com", "INBOX.x"),
            ("user.ann.x", "ann@defdomain", "INBOX.x"),
            ("DELETED.user.glad.x.6B0450F1", "glad", "DELETED.INBOX.x.6B0450F1"),
            ("shared.news", "glad", "shared.news"),
            ("shared.news", "%shared", "shared.news"),
            ("DELETED.shared.news.6B0450F1", "%shared", "DELETED.shared.news.6B0450F1"),
            ("other.com!shared.news", "%shared", "other.com!shared.news"),
        ] {
            let found = relative_name(name.as_bytes(), userid.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), relative);
        }
    }

    #[test]
    fn deleted_mailboxes_are_told_by_their_names() {
        for (name, expected) in [
            ("DELETED.user.glad.x.6B0450F1", true),
            ("other.com!DELETED.user.ann.x.6B0450F1", true),
            ("DELETED.shared.news.6B0450F1", true),
            ("user.glad.DELETED.x", false),
            ("other.com!shared.DELETED", false),
            ("DELETED", false),
        ] {
            assert_eq!(is_deleted(name.as_bytes()), expected, "{name}");
        }
    }
}

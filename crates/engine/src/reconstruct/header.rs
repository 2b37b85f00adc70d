//! cyrus.header, where it is lost or has lost its identity.

use cyrus_format::header::{HeaderForm, MailboxHeader};
use cyrus_format::index::correct_file;
use cyrus_format::mboxlist::MailboxEntry;
use model::{FindingKind, MboxName, UserFlags};

use super::change::{Field, Value, Why};
use super::tell::Tell;

/// What a header may be made of.
pub(super) struct Sources<'s> {
    /// What mailboxes.db says of the mailbox.
    pub entry: &'s MailboxEntry,
    /// The form of other headers of the account.
    pub form: HeaderForm,
    /// The quota root that a mailbox counts for.
    pub quota_root: &'s dyn Fn(&MboxName) -> Option<MboxName>,
    /// User flags that records have.
    pub used: UserFlags,
    /// The CRC of the file, if the index says it and is believed.
    pub sum: Option<u32>,
}

/// The header that a mailbox is to have, and its bytes if they are others than it has.
pub(super) fn header(
    bytes: Option<&[u8]>,
    sources: &Sources<'_>,
    tell: &mut Tell<'_>,
) -> (MailboxHeader, Option<Vec<u8>>) {
    let corrected = bytes.and_then(|bytes| corrected(bytes, sources.sum?));
    if corrected.is_some() {
        let field = Field::new("cyrus.header", Value::text("damaged"), Value::text("whole"));
        tell.change(None, Why::BitPutBack, vec![field]);
    }
    let (new, is_changed) = match corrected.as_deref().or(bytes).map(MailboxHeader::parse) {
        Some(Ok(header)) => with_identity(header, sources, tell),
        _ => {
            let header = anew(sources);
            tell.change(None, Why::HeaderRemade, told(&header));
            (header, true)
        }
    };
    if !is_changed {
        return (new, corrected);
    }
    match new.write() {
        Ok(bytes) => (new, Some(bytes)),
        Err(error) => {
            tell.wrong(FindingKind::HeaderUnreadable, error);
            (new, None)
        }
    }
}

/// The file with the one bit put back that keeps it from fitting the CRC that the index has of it.
fn corrected(bytes: &[u8], sum: u32) -> Option<Vec<u8>> {
    let mut corrected = bytes.to_vec();
    correct_file(&mut corrected, sum)?;
    Some(corrected)
}

/// A header with the identity that mailboxes.db has, if it has none.
fn with_identity(
    mut header: MailboxHeader,
    sources: &Sources<'_>,
    tell: &mut Tell<'_>,
) -> (MailboxHeader, bool) {
    let listed = sources.entry.uniqueid.as_ref().filter(|id| !id.is_empty());
    let own = header.uniqueid.as_ref().filter(|id| !id.is_empty());
    match (listed, own) {
        (Some(listed), None) => {
            let field = Field::new("uniqueid", Value::Nothing, Value::text(listed));
            header.uniqueid = Some(listed.clone());
            tell.change(None, Why::Identity, vec![field]);
            (header, true)
        }
        (Some(listed), Some(own)) if listed != own => {
            let detail = format!("mailboxes.db has {listed}, cyrus.header {own}");
            tell.wrong(FindingKind::UniqueIdMismatch, detail);
            (header, false)
        }
        _ => (header, false),
    }
}

/// A header of what others know. The names of user flags stood nowhere else: those that messages have get
/// names that tell them apart.
fn anew(sources: &Sources<'_>) -> MailboxHeader {
    let Sources { entry, form, quota_root, used, .. } = sources;
    let mut user_flags = Vec::new();
    for flag in used.iter() {
        user_flags.resize(flag, None);
        user_flags.push(Some(format!("$Lost{flag}").into_bytes()));
    }
    let is_dlist = *form != HeaderForm::Lines;
    MailboxHeader {
        form: *form,
        mbtype: if is_dlist { entry.mbtype.to_string().into_bytes() } else { Vec::new() },
        name: is_dlist.then(|| entry.name.clone()),
        uniqueid: entry.uniqueid.clone(),
        jmapid: entry.jmapid.clone().filter(|_| *form == HeaderForm::DlistWithJmapId),
        quotaroot: quota_root(&entry.name),
        acl: entry.acl.clone(),
        user_flags,
    }
}

fn told(header: &MailboxHeader) -> Vec<Field> {
    let new = |name, value| Field::new(name, Value::Nothing, value);
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let acl = header.acl.iter().map(|(who, rights)| format!("{} {}", lossy(who), lossy(rights)));
    let flags = header.user_flags.iter().flatten().map(|name| lossy(name));
    let mut fields = vec![new("acl", Value::Text(acl.collect::<Vec<_>>().join(", ")))];
    fields.extend(header.uniqueid.as_ref().map(|id| new("uniqueid", Value::text(id))));
    fields.extend(header.quotaroot.as_ref().map(|root| new("quotaroot", Value::text(root))));
    let flags: Vec<String> = flags.collect();
    if !flags.is_empty() {
        fields.push(new("user_flags", Value::Text(flags.join(" "))));
    }
    fields
}

#[cfg(test)]
mod tests {
    use cyrus_format::header::file_crc;

    use super::*;

    #[test]
    fn flags_that_are_used_can_be_told_apart() {
        let mut used = UserFlags::default();
        used.insert(0);
        used.insert(3);
        let entry = MailboxEntry { name: "user.glad".into(), ..MailboxEntry::default() };
        let quota_root = &|_: &MboxName| Some(MboxName::from("user.glad"));
        let form = HeaderForm::Dlist;
        let sources = Sources { entry: &entry, form, quota_root, used, sum: None };
        let mut told = 0;
        let mut sink = |_: crate::reconstruct::Told<'_>| told += 1;
        let mut tell = Tell::of("user.glad", &mut sink);
        let (header, bytes) = header(None, &sources, &mut tell);
        let names: Vec<Option<&[u8]>> = header.flag_names().collect();
        assert_eq!(names, [Some(b"$Lost0".as_slice()), None, None, Some(b"$Lost3")]);
        let read = MailboxHeader::parse(&bytes.expect("new bytes")).expect("a header");
        assert_eq!(read, header);
        assert_eq!(read.quotaroot, Some(MboxName::from("user.glad")));
        assert_eq!(told, 1);
    }

    #[test]
    fn the_bit_is_put_back_that_the_index_misses() {
        let header =
            MailboxHeader { user_flags: vec![Some(b"Later".to_vec())], ..MailboxHeader::default() };
        let good = header.write().expect("a header");
        let sum = file_crc(&good);
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 4;
            assert_eq!(corrected(&bad, sum).as_ref(), Some(&good));
            bad[(byte + 9) % good.len()] ^= 4;
            assert_eq!(corrected(&bad, sum), None);
        }
        assert_eq!(corrected(&good, sum), None);
    }
}

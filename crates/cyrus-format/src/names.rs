//! The forms of a mailbox name, and who owns one (`imap/mboxname.c`, all versions).
//!
//! | form | separator | `.` within a component | domain |
//! |---|---|---|---|
//! | internal, `other.com!user.fred^smith.a^b` | `.` | `^` | `dom!` in front |
//! | external (administrator's), `user/fred.smith/a.b@other.com` | `/` or `.` | `.` (not expressible if that separates) | `@dom` behind |
//! | dbname, the keys of mailboxes.db since 3.6 | 0x1F | `.` | `dom` 0x1D in front |
//!
//! Everything is bytes; text beyond ASCII is modified UTF-7 in every form and passes through.

use model::{MboxName, Userid};
use thiserror::Error;

/// Between the components of a dbname (`imap/mboxlist.c`, DB_HIERSEP_CHAR, 3.6).
pub(crate) const DB_SEPARATOR: u8 = 0x1f;

/// Behind the domain of a dbname (`imap/mboxlist.c`, DB_DOMAINSEP_CHAR, 3.6).
const DB_DOMAIN_SEPARATOR: u8 = 0x1d;

/// Which releases' reading of names applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameEra {
    /// 2.x: `!` divides off a domain only if `virtdomains` is on; paths are hashed by the
    /// component as stored (`fred^smith`).
    V2,
    /// 3.0 and later: `!` always does, the default domain vanishes, and paths are hashed by the
    /// decoded component (`fred.smith`).
    V3,
}

/// What separates the components of an external name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Separator {
    /// `unixhierarchysep: no`
    Dot,
    /// `unixhierarchysep: yes`
    Slash,
}

impl Separator {
    /// The character itself.
    pub fn byte(self) -> u8 {
        match self {
            Separator::Dot => b'.',
            Separator::Slash => b'/',
        }
    }
}

/// Why a name has no such form, or may not become a path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Two separators in a row, one at an end, or nothing at all.
    #[error("{kind} \"{name}\": a component is empty")]
    EmptyComponent {
        /// What was being named: mailbox, account, uniqueid and so on.
        kind: &'static str,
        /// The name, printable.
        name: String,
    },
    /// A component that a file system would take for a directory link.
    #[error("{kind} \"{name}\": a component is \".\" or \"..\"")]
    DotComponent {
        /// What was being named.
        kind: &'static str,
        /// The name, printable.
        name: String,
    },
    /// A byte that can stand in no component: NUL, `/`, or another form's separator.
    #[error("{kind} \"{name}\": byte 0x{byte:02x} cannot be part of a component")]
    ForbiddenByte {
        /// What was being named.
        kind: &'static str,
        /// The name, printable.
        name: String,
        /// The byte.
        byte: u8,
    },
    /// The name is fine, but the configuration leaves no way to write it.
    #[error("{kind} \"{name}\": there is no {form} form of it")]
    NoForm {
        /// What was being named.
        kind: &'static str,
        /// The name, printable.
        name: String,
        /// The form that was wanted.
        form: &'static str,
    },
}

/// What the configuration says about names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRules {
    /// Whose reading applies.
    pub era: NameEra,
    /// `virtdomains` is not `off`.
    pub virtdomains: bool,
    /// `defaultdomain`: names of that domain carry none.
    pub defaultdomain: Option<Vec<u8>>,
    /// `unixhierarchysep`.
    pub separator: Separator,
    /// `deletedprefix`.
    pub deletedprefix: Vec<u8>,
}

impl NameRules {
    /// The defaults of 3.x, without `virtdomains`.
    pub fn v3() -> Self {
        Self {
            era: NameEra::V3,
            virtdomains: false,
            defaultdomain: Some(b"internal".to_vec()),
            separator: Separator::Slash,
            deletedprefix: b"DELETED".to_vec(),
        }
    }

    /// The defaults of 2.x, without `virtdomains`.
    pub fn v2() -> Self {
        Self { era: NameEra::V2, defaultdomain: None, separator: Separator::Dot, ..Self::v3() }
    }

    /// Takes an internal name apart.
    ///
    /// # Errors
    /// An empty component, a NUL, or a separator of another form.
    pub fn parts(&self, name: &MboxName) -> Result<NameParts, NameError> {
        let faulty = Faulty { kind: "mailbox", name: name.as_bytes() };
        let (domain, local) = self.split_domain(name.as_bytes());
        let components = split(local, b'.').map(|part| self.decode(part)).collect();
        self.assemble(faulty, domain, components)
    }

    /// Puts a name together again.
    pub fn internal(&self, parts: &NameParts) -> MboxName {
        let mut name = Vec::new();
        if let Some(domain) = &parts.domain {
            name.extend_from_slice(domain);
            name.push(b'!');
        }
        for (at, component) in self.all_components(parts).iter().enumerate() {
            if at > 0 {
                name.push(b'.');
            }
            name.extend(component.iter().map(|byte| if *byte == b'.' { b'^' } else { *byte }));
        }
        MboxName::new(name)
    }

    /// The dbname of an internal name: what follows the `N` in a key of mailboxes.db (3.6+).
    ///
    /// # Errors
    /// As for [`NameRules::parts`].
    pub fn to_dbname(&self, name: &MboxName) -> Result<Vec<u8>, NameError> {
        let parts = self.parts(name)?;
        let mut dbname = Vec::with_capacity(name.as_bytes().len());
        if let Some(domain) = &parts.domain {
            dbname.extend_from_slice(domain);
            dbname.push(DB_DOMAIN_SEPARATOR);
        }
        dbname.extend(self.all_components(&parts).join(&DB_SEPARATOR));
        Ok(dbname)
    }

    /// The internal name of a dbname.
    ///
    /// # Errors
    /// An empty component, a NUL, or a `^`, which no dbname holds.
    pub fn from_dbname(&self, dbname: &[u8]) -> Result<MboxName, NameError> {
        let faulty = Faulty { kind: "dbname", name: dbname };
        let (domain, local) = match position(dbname, DB_DOMAIN_SEPARATOR) {
            Some(at) => (Some(&dbname[..at]), &dbname[at + 1..]),
            None => (None, dbname),
        };
        if local.contains(&b'^') {
            return Err(faulty.forbidden(b'^'));
        }
        let components = split(local, DB_SEPARATOR).map(<[u8]>::to_vec).collect();
        self.assemble(faulty, domain, components).map(|parts| self.internal(&parts))
    }

    /// The name as an administrator types it, without `altnamespace`.
    ///
    /// # Errors
    /// As for [`NameRules::parts`]; [`NameError::NoForm`] if reading the result back would give
    /// another name.
    pub fn to_external(&self, name: &MboxName) -> Result<Vec<u8>, NameError> {
        let parts = self.parts(name)?;
        let mut external = Vec::new();
        for (at, component) in self.all_components(&parts).iter().enumerate() {
            if at > 0 {
                external.push(self.separator.byte());
            }
            let dot = if self.separator == Separator::Slash { b'.' } else { b'^' };
            external.extend(component.iter().map(|byte| if *byte == b'.' { dot } else { *byte }));
        }
        if let Some(domain) = &parts.domain {
            external.push(b'@');
            external.extend_from_slice(domain);
        }
        match self.from_external(&external) {
            Ok(again) if again == self.internal(&parts) => Ok(external),
            _ => Err(Faulty { kind: "mailbox", name: name.as_bytes() }.no_form("external")),
        }
    }

    /// The internal name of what an administrator typed.
    ///
    /// # Errors
    /// An empty component, a NUL, `/` where that does not separate, or `^` where `/` does.
    pub fn from_external(&self, external: &[u8]) -> Result<MboxName, NameError> {
        let faulty = Faulty { kind: "mailbox", name: external };
        let (local, domain) = match external.iter().rposition(|byte| *byte == b'@') {
            Some(at) if self.divides_domains() => (&external[..at], Some(&external[at + 1..])),
            _ => (external, None),
        };
        let foreign = if self.separator == Separator::Slash { b'^' } else { b'/' };
        if local.contains(&foreign) {
            return Err(faulty.forbidden(foreign));
        }
        let components =
            split(local, self.separator.byte()).map(|part| self.decode(part)).collect();
        self.assemble(faulty, domain, components).map(|parts| self.internal(&parts))
    }

    /// Whose mailbox it is; deleted ones keep their owner. `None` for shared ones and for names
    /// that cannot be taken apart.
    pub fn owner(&self, name: &MboxName) -> Option<Userid> {
        let parts = self.parts(name).ok()?;
        let mut userid = parts.user?;
        if let Some(domain) = parts.domain {
            userid.push(b'@');
            userid.extend(domain);
        }
        Some(Userid::new(userid))
    }

    /// Whether it is a deleted mailbox that is still kept.
    pub fn is_deleted(&self, name: &MboxName) -> bool {
        self.parts(name).is_ok_and(|parts| parts.deleted.is_some())
    }

    /// The name of an account's INBOX.
    ///
    /// # Errors
    /// An empty or forbidden part, or a userid that 2.x without `unixhierarchysep` cannot
    /// express because it holds a dot.
    pub fn inbox_of(&self, userid: &Userid) -> Result<MboxName, NameError> {
        self.user_parts(userid).map(|parts| self.internal(&parts))
    }

    /// The parts of an account's INBOX.
    ///
    /// # Errors
    /// As for [`NameRules::inbox_of`].
    pub fn user_parts(&self, userid: &Userid) -> Result<NameParts, NameError> {
        let faulty = Faulty { kind: "account", name: userid.as_bytes() };
        let (local, domain) = self.split_userid(userid);
        if !self.decodes_carets() && local.contains(&b'.') {
            return Err(faulty.no_form("mailbox"));
        }
        if self.decodes_carets() && local.contains(&b'^') {
            return Err(faulty.forbidden(b'^'));
        }
        self.assemble(faulty, domain, vec![b"user".to_vec(), local.to_vec()])
    }

    /// Divides `ann@other.com`; the default domain counts as none.
    pub(crate) fn split_userid<'a>(&self, userid: &'a Userid) -> (&'a [u8], Option<&'a [u8]>) {
        let userid = userid.as_bytes();
        // 2.x divides at the first, 3.x at the last.
        let at = match self.era {
            NameEra::V2 => position(userid, b'@'),
            NameEra::V3 => userid.iter().rposition(|byte| *byte == b'@'),
        };
        match at {
            Some(at) if self.divides_domains() => {
                (&userid[..at], self.foreign_domain(&userid[at + 1..]))
            }
            _ => (userid, None),
        }
    }

    /// Whether `!` and `@` divide off a domain.
    pub(crate) fn divides_domains(&self) -> bool {
        self.era == NameEra::V3 || self.virtdomains
    }

    /// Divides `other.com!user.ann`.
    pub(crate) fn split_domain<'a>(&self, name: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
        match position(name, b'!') {
            Some(at) if self.divides_domains() => (Some(&name[..at]), &name[at + 1..]),
            _ => (None, name),
        }
    }

    /// The domain, unless it is the default one.
    fn foreign_domain<'a>(&self, domain: &'a [u8]) -> Option<&'a [u8]> {
        Some(domain).filter(|domain| self.defaultdomain.as_deref() != Some(*domain))
    }

    /// Whether `^` stands for a dot.
    fn decodes_carets(&self) -> bool {
        self.era == NameEra::V3 || self.separator == Separator::Slash
    }

    fn decode(&self, component: &[u8]) -> Vec<u8> {
        if !self.decodes_carets() {
            return component.to_vec();
        }
        component.iter().map(|byte| if *byte == b'^' { b'.' } else { *byte }).collect()
    }

    /// Sorts decoded components into their roles, and checks each.
    fn assemble(
        &self,
        faulty: Faulty<'_>,
        domain: Option<&[u8]>,
        mut components: Vec<Vec<u8>>,
    ) -> Result<NameParts, NameError> {
        let mut forbidden = vec![0, DB_SEPARATOR, DB_DOMAIN_SEPARATOR];
        if self.divides_domains() {
            forbidden.push(b'!');
        }
        for component in domain.into_iter().chain(components.iter().map(Vec::as_slice)) {
            if component.is_empty() {
                return Err(faulty.empty());
            }
            if let Some(byte) = component.iter().find(|byte| forbidden.contains(byte)) {
                return Err(faulty.forbidden(*byte));
            }
        }
        let mut deleted = None;
        if components.len() > 2 && components.first() == Some(&self.deletedprefix) {
            deleted = components.last().and_then(|text| deletion_time(text));
            if deleted.is_some() {
                components.pop();
                components.remove(0);
            }
        }
        let mut user = None;
        if components.len() > 1 && components.first().is_some_and(|first| first == b"user") {
            user = Some(components.remove(1));
            components.remove(0);
        }
        let domain = domain.and_then(|domain| self.foreign_domain(domain)).map(<[u8]>::to_vec);
        Ok(NameParts { domain, deleted, user, folders: components })
    }

    /// Every component of the name in its order, `user` and the deletion included.
    pub(crate) fn all_components(&self, parts: &NameParts) -> Vec<Vec<u8>> {
        let mut all = Vec::with_capacity(parts.folders.len() + 4);
        if parts.deleted.is_some() {
            all.push(self.deletedprefix.clone());
        }
        if let Some(user) = &parts.user {
            all.push(b"user".to_vec());
            all.push(user.clone());
        }
        all.extend(parts.folders.iter().cloned());
        if let Some(time) = parts.deleted {
            all.push(format!("{time:X}").into_bytes());
        }
        all
    }
}

/// A mailbox name taken apart, decoded: dots are dots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameParts {
    /// The domain, if it is not the default one.
    pub domain: Option<Vec<u8>>,
    /// When it was deleted, in seconds since 1970.
    pub deleted: Option<u64>,
    /// The owner without his domain.
    pub user: Option<Vec<u8>>,
    /// The other components: below the owner's INBOX, or of a shared mailbox.
    pub folders: Vec<Vec<u8>>,
}

/// A name on its way into an error.
#[derive(Clone, Copy)]
pub(crate) struct Faulty<'a> {
    pub(crate) kind: &'static str,
    pub(crate) name: &'a [u8],
}

impl Faulty<'_> {
    fn printable(self) -> String {
        MboxName::new(self.name).to_string()
    }

    pub(crate) fn empty(self) -> NameError {
        NameError::EmptyComponent { kind: self.kind, name: self.printable() }
    }

    pub(crate) fn dots(self) -> NameError {
        NameError::DotComponent { kind: self.kind, name: self.printable() }
    }

    pub(crate) fn forbidden(self, byte: u8) -> NameError {
        NameError::ForbiddenByte { kind: self.kind, name: self.printable(), byte }
    }

    pub(crate) fn no_form(self, form: &'static str) -> NameError {
        NameError::NoForm { kind: self.kind, name: self.printable(), form }
    }
}

/// The time in the last component of a deleted mailbox: upper-case hex without leading zeros.
/// Anything else was made by hand and is an ordinary component.
fn deletion_time(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let time = u64::from_str_radix(text, 16).ok()?;
    (time > 0 && format!("{time:X}") == text).then_some(time)
}

fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|byte| *byte == wanted)
}

fn split(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    bytes.split(move |byte| *byte == separator)
}

#[cfg(test)]
mod tests;

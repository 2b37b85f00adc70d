//! What the files of an account's sieve directory are (`imap/sievedir.c`, `timsieved/actions.c`).
//!
//! Up to 3.4 the scripts lie here as they were uploaded. Since 3.6 they are messages of the
//! mailbox `#sieve`, and here is only bytecode. The active script is a symbolic link, in all
//! versions.

/// The link to the bytecode of the active script.
pub const ACTIVE_LINK: &[u8] = b"defaultbc";

const SCRIPT_SUFFIX: &[u8] = b".script";
const BYTECODE_SUFFIX: &[u8] = b".bc";

/// What a name in a sieve directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SieveFile<'a> {
    /// The source of the script of that name.
    Script(&'a [u8]),
    /// Its bytecode, which Cyrus makes from the source.
    Bytecode(&'a [u8]),
    /// The link that tells which script is active.
    ActiveLink,
    /// Anything else: what an interrupted upload left, or another program's.
    Other,
}

impl<'a> SieveFile<'a> {
    /// Classes a file name.
    pub fn of(file_name: &'a [u8]) -> Self {
        if file_name == ACTIVE_LINK {
            SieveFile::ActiveLink
        } else if let Some(name) = stem(file_name, SCRIPT_SUFFIX) {
            SieveFile::Script(name)
        } else if let Some(name) = stem(file_name, BYTECODE_SUFFIX) {
            SieveFile::Bytecode(name)
        } else {
            SieveFile::Other
        }
    }
}

/// The active script by the target of [`ACTIVE_LINK`]. `None` if the target is no bytecode
/// file of this directory: Cyrus would then run none of its scripts.
pub fn active_script(target: &[u8]) -> Option<&[u8]> {
    stem(target.strip_prefix(b"./").unwrap_or(target), BYTECODE_SUFFIX)
}

/// The target of [`ACTIVE_LINK`] for a script; `None` for a name that cannot be a script's.
pub fn active_target(script: &[u8]) -> Option<Vec<u8>> {
    is_script_name(script).then(|| [script, BYTECODE_SUFFIX].concat())
}

/// The file name of a script's source; `None` for a name that cannot be a script's.
pub fn script_file(script: &[u8]) -> Option<Vec<u8>> {
    is_script_name(script).then(|| [script, SCRIPT_SUFFIX].concat())
}

/// Whether Cyrus would take the name (sievedir_valid_name, 3.6): short enough that a suffix and
/// `.NEW` fit, and no path.
fn is_script_name(name: &[u8]) -> bool {
    const MAX_NAME: usize = 1024 - SCRIPT_SUFFIX.len() - 4;
    !name.is_empty() && name.len() < MAX_NAME && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

fn stem<'a>(file_name: &'a [u8], suffix: &[u8]) -> Option<&'a [u8]> {
    file_name.strip_suffix(suffix).filter(|name| is_script_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_a_file_is() {
        assert_eq!(SieveFile::of(b"vacation.script"), SieveFile::Script(b"vacation"));
        assert_eq!(SieveFile::of(b"my rules.bc.script"), SieveFile::Script(b"my rules.bc"));
        assert_eq!(SieveFile::of(b"vacation.bc"), SieveFile::Bytecode(b"vacation"));
        assert_eq!(SieveFile::of(b"defaultbc"), SieveFile::ActiveLink);
        for name in [".script", ".bc", "defaultbc.NEW", "vacation.bc.NEW", "default", ""] {
            assert_eq!(SieveFile::of(name.as_bytes()), SieveFile::Other, "{name}");
        }
    }

    #[test]
    fn the_link_names_the_active_script() {
        assert_eq!(active_script(b"vacation.bc"), Some(b"vacation".as_slice()));
        assert_eq!(active_script(b"./a.b.bc"), Some(b"a.b".as_slice()));
        for target in ["", ".bc", "vacation.script", "../x.bc", "/etc/x.bc", "a\0.bc"] {
            assert_eq!(active_script(target.as_bytes()), None, "{target:?}");
        }
    }

    #[test]
    fn scripts_have_files_that_are_read_back() {
        for name in ["vacation", "a.b", "\u{fc}", "defaultbc"] {
            let name = name.as_bytes();
            let file = script_file(name).expect("a good name");
            assert_eq!(SieveFile::of(&file), SieveFile::Script(name));
            let target = active_target(name).expect("a good name");
            assert_eq!(active_script(&target), Some(name));
        }
        for name in ["", "a/b", "..//x", "a\0"] {
            assert_eq!(
                (script_file(name.as_bytes()), active_target(name.as_bytes())),
                (None, None)
            );
        }
        assert_eq!(script_file(&[b'x'; 1013]), None);
        assert!(script_file(&[b'x'; 1012]).is_some());
    }
}

//! What can be wrong with the bytes of a Cyrus file, and with values that are to become one.

use thiserror::Error;

/// Why bytes could not be read as the file they are taken for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// Written by a Cyrus newer than this program. The file itself may be in perfect order, so
    /// this is never to be called damage.
    #[error("{what}: version {version} is newer than {newest}, the newest known")]
    TooNew {
        /// The kind of file.
        what: &'static str,
        /// The version that the file claims.
        version: u32,
        /// The newest version that can be read.
        newest: u32,
    },
    /// Not this kind of file at all.
    #[error("{what}: not such a file: {detail}")]
    Foreign {
        /// The kind of file that was expected.
        what: &'static str,
        /// What gave it away.
        detail: String,
    },
    /// The right kind of file, but broken.
    #[error("{what}: damaged at byte {offset}: {detail}")]
    Damaged {
        /// The kind of file.
        what: &'static str,
        /// Where in the file the trouble starts, in bytes.
        offset: u64,
        /// What was expected and what was found.
        detail: String,
    },
}

/// Why values could not be written as the file they are meant for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// Files of this version are read, but not written.
    #[error("{what}: version {version} cannot be written")]
    Version {
        /// The kind of file.
        what: &'static str,
        /// The version asked for.
        version: u32,
    },
    /// The field of this version is too narrow for the value, or the value has no place in it.
    #[error("{what}: {field} cannot hold {value}")]
    Range {
        /// The kind of file.
        what: &'static str,
        /// The field's name.
        field: &'static str,
        /// The value, for people.
        value: String,
    },
}

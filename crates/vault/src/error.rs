//! What goes wrong with a vault.

use std::io;

/// An error of a vault. Names the object and what was being done to it.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The location names no store.
    #[error("\"{location}\" is no place for a vault")]
    Location {
        /// As it was given.
        location: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is nothing, or nothing that says it is a vault.
    #[error("{place} is not a vault")]
    NotAVault {
        /// Where.
        place: String,
    },
    /// There is something else, where a vault was to be made.
    #[error("{place} holds something else than a vault: {found}")]
    NotEmpty {
        /// Where.
        place: String,
        /// The first object that was found.
        found: String,
    },
    /// A later program made it.
    #[error("the vault {place} is of a newer kind: \"{version}\"")]
    TooNew {
        /// Where.
        place: String,
        /// What its marker says.
        version: String,
    },
    /// It says that it is a vault, but not in the words that a program writes.
    #[error("the object cylinder-vault of {place} is damaged: \"{found}\"")]
    Marker {
        /// Where.
        place: String,
        /// What it says.
        found: String,
    },
    /// The store refused.
    #[error("cannot {op} {object}")]
    Store {
        /// What was tried.
        op: &'static str,
        /// With which object.
        object: String,
        /// What the store says.
        source: object_store::Error,
    },
    /// An object is not as long as the listing says.
    #[error("{object} has {found} bytes where {wanted} were asked for")]
    Short {
        /// Which.
        object: String,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that came.
        found: u64,
    },
    /// What is to be stored could not be kept until it is.
    #[error("cannot keep what is to be stored")]
    Stage(#[source] io::Error),
    /// A note makes no sense.
    #[error("the note {object} cannot be understood: {detail}")]
    Note {
        /// Which.
        object: String,
        /// Why not.
        detail: String,
    },
    /// The storage engine could not be started, or went away.
    #[error("the storage engine has stopped")]
    Engine(#[source] io::Error),
}

/// With a [`VaultError`].
pub type Result<T> = std::result::Result<T, VaultError>;

impl VaultError {
    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Store { source: object_store::Error::NotFound { .. }, .. })
    }
}

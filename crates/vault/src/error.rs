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
    /// The bucket that it should be in is not there.
    #[error("there is no such bucket: {place}")]
    NoBucket {
        /// Where.
        place: String,
    },
    /// Nobody gave credentials for the store, and the machine has none.
    #[error("there are no credentials for {object}")]
    NoCredentials {
        /// What was asked for.
        object: String,
        /// What asking the machine for them gave.
        source: object_store::Error,
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

/// What a store answers about a bucket that it does not have (S3's error codes).
const NO_BUCKET: &str = "<Code>NoSuchBucket</Code>";

/// Where a machine of Amazon is asked for the credentials of its role, if there are no others.
const ROLE: [&str; 2] = ["/latest/api/token", "/latest/meta-data/iam/"];

impl VaultError {
    /// An error of the store, about this object.
    pub(crate) fn of_store(op: &'static str, object: String, source: object_store::Error) -> Self {
        // The engine has no other name for it than the address that it asked.
        let text = source.to_string();
        match ROLE.iter().any(|path| text.contains(path) && !object.contains(path)) {
            true => Self::NoCredentials { object, source },
            false => Self::Store { op, object, source },
        }
    }

    /// Whether not even the bucket is there.
    pub(crate) fn is_no_bucket(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.to_string().contains(NO_BUCKET))
    }

    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Store { source: object_store::Error::NotFound { .. }, .. })
    }
}

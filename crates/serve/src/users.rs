//! Who may log in: a file with one line for each user, `name:hash`.
//!
//! Hashes are Argon2id, in the form of PHC strings, with a salt of their own; passwords are nowhere
//! kept. Whoever is in the file may do everything that a master does.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{self, PasswordHasher, PasswordVerifier};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The users of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    users: Vec<User>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    name: String,
    hash: String,
}

/// Why users cannot be known.
#[derive(Debug, Error)]
pub enum UsersError {
    /// The file cannot be read.
    #[error("read the users in {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read the file, or change it.
    #[error("the users in {} are not secret: its mode is {mode:o}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A line that is none.
    #[error("line {line} of the users is not name:hash")]
    Line {
        /// Its number, from 1.
        line: usize,
    },
    /// A name that a line cannot hold, or SASL.
    #[error("a user's name has from 1 to 255 bytes, no colon and no control characters")]
    Name,
    /// Nothing to log in with.
    #[error("a password has from 1 to 1024 bytes, and none of them is zero")]
    Password,
    /// No hash can be made.
    #[error("hash a password")]
    Hash(#[source] password_hash::Error),
}

impl Users {
    /// Reads the lines of a file.
    ///
    /// # Errors
    /// If one is no user.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let mut users = Vec::new();
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.is_empty()) {
            let user = text
                .split_once(':')
                .filter(|(name, hash)| check_name(name).is_ok() && is_hash(hash));
            let (name, hash) = user.ok_or(UsersError::Line { line })?;
            users.push(User { name: name.to_owned(), hash: hash.to_owned() });
        }
        Ok(Self { users })
    }

    /// The lines of a file.
    pub fn text(&self) -> String {
        self.users.iter().map(|user| format!("{}:{}\n", user.name, user.hash)).collect()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Adds a user, or gives one another password.
    ///
    /// # Errors
    /// If the name or the password is none.
    pub fn set(&mut self, name: &str, password: &[u8]) -> Result<(), UsersError> {
        check_name(name)?;
        if !(1..=1024).contains(&password.len()) || password.contains(&0) {
            return Err(UsersError::Password);
        }
        let user = User { name: name.to_owned(), hash: hash(password)? };
        self.users.retain(|other| other.name != name);
        self.users.push(user);
        Ok(())
    }

    fn hash_of(&self, name: &str) -> Option<&str> {
        self.users.iter().find(|user| user.name == name).map(|user| user.hash.as_str())
    }
}

fn check_name(name: &str) -> Result<(), UsersError> {
    let fits = (1..=255).contains(&name.len());
    let plain = !name.contains(|c: char| c == ':' || c.is_control());
    if fits && plain { Ok(()) } else { Err(UsersError::Name) }
}

/// Whether a password can be compared with this at all.
fn is_hash(text: &str) -> bool {
    let known = |hash: &PasswordHash| hash.algorithm.as_str().starts_with("argon2");
    PasswordHash::new(text).is_ok_and(|hash| known(&hash) && hash.hash.is_some())
}

fn hash(password: &[u8]) -> Result<String, UsersError> {
    let hash = Argon2::default().hash_password(password).map_err(UsersError::Hash)?;
    Ok(hash.to_string())
}

/// Judges passwords by a file, which is read each time: a user who is taken out of it is out.
///
/// A master logs in for each run, and a hash takes longer than a run with nothing to do. So a
/// password that was right is known again by a fingerprint of it and of the hash in the file. It is
/// made with a key that this process has drawn, and never leaves it.
#[derive(Debug)]
pub struct UsersFile {
    path: PathBuf,
    /// What a password is compared with if there is no such user, so that this takes as long. It has
    /// a salt that nobody else knows, and so serves as the key, too.
    nobody: String,
    /// Of the passwords that were right last, by name.
    known: Mutex<HashMap<String, Fingerprint>>,
    /// Hashing takes 19 MiB. One at a time, so that a crowd of strangers takes no more.
    one: Mutex<()>,
}

type Fingerprint = [u8; 32];

impl UsersFile {
    /// Takes the file, and looks whether it can be used.
    ///
    /// # Errors
    /// If it cannot.
    pub fn open(path: &Path) -> Result<Self, UsersError> {
        let (path, nobody) = (path.to_owned(), hash(b"nobody")?);
        let file = Self { path, nobody, known: Mutex::default(), one: Mutex::default() };
        file.read()?;
        Ok(file)
    }

    /// The users that are in it now.
    ///
    /// # Errors
    /// If it cannot be read, or others can.
    pub fn read(&self) -> Result<Users, UsersError> {
        let read = |source| UsersError::Read { path: self.path.clone(), source };
        let mode = fs::metadata(&self.path).map_err(read)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(UsersError::Open { path: self.path.clone(), mode });
        }
        Users::parse(&fs::read_to_string(&self.path).map_err(read)?)
    }

    /// Whether this is a user with that password. A no takes as long for anybody.
    ///
    /// # Errors
    /// If it cannot be known.
    pub fn verify(&self, name: &str, password: &[u8]) -> Result<bool, UsersError> {
        let users = self.read()?;
        let stored = users.hash_of(name);
        let fingerprint = stored.map(|hash| self.fingerprint(hash, password));
        if fingerprint.is_some() && lock(&self.known).get(name) == fingerprint.as_ref() {
            return Ok(true);
        }
        let hash = PasswordHash::new(stored.unwrap_or(&self.nobody));
        let hash = hash.map_err(|error| UsersError::Hash(error.into()))?;
        let one = lock(&self.one);
        let matches = Argon2::default().verify_password(password, &hash).is_ok();
        drop(one);
        let Some(fingerprint) = fingerprint.filter(|_| matches) else { return Ok(false) };
        lock(&self.known).insert(name.to_owned(), fingerprint);
        Ok(true)
    }

    fn fingerprint(&self, hash: &str, password: &[u8]) -> Fingerprint {
        let parts = [self.nobody.as_bytes(), hash.as_bytes(), password];
        // Each part ends where it ends: neither of the first two has a zero.
        Sha256::digest(parts.join(&0)).into()
    }
}

/// Whoever panicked with one of these has left whole what it guards.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(users: &Users, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("users");
        fs::write(&path, users.text()).expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        (directory, path)
    }

    fn glad() -> Users {
        let mut users = Users::default();
        users.set("glad", b"secret").expect("a user");
        users
    }

    #[test]
    fn a_user_is_known_by_the_password_that_was_set_last() {
        let mut users = glad();
        users.set("iris", b"other").expect("a user");
        users.set("glad", b"new \xff").expect("the same user");
        let text = users.text();
        assert!(!text.contains("secret") && text.lines().count() == 2, "{text}");
        assert_eq!(Users::parse(&text).expect("our own lines"), users);
        let (_directory, path) = file(&users, 0o600);
        let file = UsersFile::open(&path).expect("a good file");
        for (name, password, good) in [
            ("glad", &b"new \xff"[..], true),
            ("iris", b"other", true),
            ("glad", b"secret", false),
            ("glad", b"other", false),
            ("glad", b"", false),
            ("nobody", b"nobody", false),
            ("", b"", false),
            ("glad", b"new \xff", true),
        ] {
            assert_eq!(file.verify(name, password).expect("the file is there"), good, "{name}");
        }
    }

    #[test]
    fn who_is_taken_out_of_the_file_is_out() {
        let (_directory, path) = file(&glad(), 0o600);
        let file = UsersFile::open(&path).expect("a good file");
        assert!(file.verify("glad", b"secret").expect("it is there"));
        let mut changed = glad();
        changed.set("glad", b"other").expect("the same user");
        fs::write(&path, changed.text()).expect("it can be written");
        assert!(!file.verify("glad", b"secret").expect("it is there"));
        assert!(file.verify("glad", b"other").expect("it is there"));
        fs::write(&path, "").expect("it can be written");
        assert!(!file.verify("glad", b"secret").expect("it is there"));
        fs::remove_file(&path).expect("it was there");
        assert!(matches!(file.verify("glad", b"secret"), Err(UsersError::Read { .. })));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o620] {
            let (_directory, path) = file(&glad(), mode);
            let error = UsersFile::open(&path).expect_err("not secret");
            assert!(matches!(error, UsersError::Open { mode: found, .. } if found == mode));
        }
    }

    #[test]
    fn what_is_no_user_is_refused() {
        let good = glad().text();
        for text in ["glad", "glad:", ":x", "glad:secret", "glad:$argon2id$v=19$m=1"] {
            let text = format!("{good}\n{text}\n");
            assert!(matches!(Users::parse(&text), Err(UsersError::Line { line: 3 })), "{text}");
        }
        let mut users = Users::default();
        for name in ["", "a:b", "a\nb", "a\0", &"x".repeat(256)] {
            assert!(matches!(users.set(name, b"x"), Err(UsersError::Name)), "{name:?}");
        }
        for password in [&b""[..], b"a\0b", &[b'x'; 1025]] {
            assert!(matches!(users.set("a", password), Err(UsersError::Password)));
        }
        assert!(users.is_empty());
    }
}

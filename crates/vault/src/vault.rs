//! A vault: accounts, their histories, and how something gets into them.

use model::Userid;

use crate::error::{Result, VaultError};
use crate::history::{Entry, History};
use crate::keys::{ACCOUNTS, MARKER, MARKER_TEXT, SegmentName, account_key, component_of, key_of};
use crate::note::Note;
use crate::stage::Staged;
use crate::store::Store;

/// The history of any number of accounts, in one store.
#[derive(Clone, Debug)]
pub struct Vault {
    store: Store,
}

impl Vault {
    /// Opens a vault that is there.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotAVault`]; [`VaultError::TooNew`]; what the store says.
    pub fn open(store: Store) -> Result<Self> {
        match Self::find(&store)? {
            true => Ok(Self { store }),
            false => Err(VaultError::NotAVault { place: store.place().to_owned() }),
        }
    }

    /// Opens a vault; makes one where nothing is.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotEmpty`] where something else is; [`VaultError::TooNew`]; what the store
    /// says.
    pub fn open_or_create(store: Store) -> Result<Self> {
        if !Self::find(&store)? {
            if let Some(found) = store.first()? {
                return Err(VaultError::NotEmpty { place: store.place().to_owned(), found });
            }
            // Whoever else does the same at this moment writes the same.
            store.put(MARKER, MARKER_TEXT)?;
        }
        Ok(Self { store })
    }

    fn find(store: &Store) -> Result<bool> {
        let marker = match store.read_all(MARKER) {
            Ok(marker) => marker,
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        };
        if marker == MARKER_TEXT.as_bytes() {
            return Ok(true);
        }
        let place = store.place().to_owned();
        let text = String::from_utf8_lossy(&marker).trim_end().escape_debug().to_string();
        match text.starts_with("cylinder vault ") {
            true => Err(VaultError::TooNew { place, version: text }),
            false => Err(VaultError::NotAVault { place }),
        }
    }

    /// Where it is, for people.
    pub fn place(&self) -> &str {
        self.store.place()
    }

    /// The storage below.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// All accounts that there is anything of: their components in segment names.
    pub fn accounts(&self) -> Result<Vec<String>> {
        let keys = self.store.directories(ACCOUNTS)?;
        Ok(keys.iter().filter_map(|key| component_of(key)).collect())
    }

    /// An account, whether there is anything of it or not.
    pub fn account(&self, userid: &Userid) -> Account {
        let component = segment::names::escape(userid.as_bytes());
        Account { store: self.store.clone(), key: account_key(userid), component }
    }

    /// An account, by its component in segment names.
    pub fn account_by_component(&self, component: &str) -> Account {
        let (store, component) = (self.store.clone(), component.to_owned());
        Account { store, key: key_of(&component), component }
    }
}

/// One account of a vault.
#[derive(Clone, Debug)]
pub struct Account {
    store: Store,
    key: String,
    component: String,
}

impl Account {
    /// Its component in segment names.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// The storage below.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The path of one of its objects.
    pub fn path(&self, name: &str) -> String {
        format!("{ACCOUNTS}/{}/{name}", self.key)
    }

    /// Lists what there is of it. One request, and one for each note.
    pub fn history(&self) -> Result<History> {
        let objects = self.store.list(&format!("{ACCOUNTS}/{}", self.key))?;
        History::new(&objects, |object, name| {
            let path = self.path(object);
            let bytes = self.store.read_all(&path)?;
            Note::decode(&path, name, &bytes)
        })
    }

    /// Stores a segment. It is there, durably, when this returns.
    pub fn put_segment(&self, name: &SegmentName, staged: Staged) -> Result<Entry> {
        let size = staged.size();
        self.store.put_staged(&self.path(&name.to_string()), staged)?;
        Ok(Entry { name: name.clone(), size })
    }

    /// Stores a note.
    pub fn put_note(&self, note: &Note) -> Result<()> {
        let (name, bytes) = note.encode()?;
        self.store.put(&self.path(&name.to_string()), bytes)
    }

    /// Deletes an object of the account.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.store.delete(&self.path(name))
    }
}

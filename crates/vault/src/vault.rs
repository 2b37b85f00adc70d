//! A vault: accounts, their histories, and how something gets into them.

use bytes::Bytes;
use model::Userid;

use crate::error::{Result, VaultError};
use crate::history::{Entry, History};
use crate::keys::{
    ACCOUNTS, MARKER, MARKER_TEXT, SegmentName, account_key, component_of, is_shortened, key_of,
};
use crate::note::Note;
use crate::object::ObjectStream;
use crate::stage::{Stage, Staged};
use crate::store::Store;

/// What a marker of this version says, and every later one.
const MARKER_WORDS: &str = "cylinder vault ";
const VERSION: u32 = 1;

/// How often an account is listed anew when a note is gone before it could be read.
const LISTINGS: usize = 5;

/// The history of any number of accounts, in one store.
#[derive(Clone, Debug)]
pub struct Vault {
    store: Store,
    /// Whether nobody has looked: it was there once.
    is_remembered: bool,
}

impl Vault {
    /// Opens a vault that is there.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotAVault`]; [`VaultError::TooNew`]; [`VaultError::Marker`]; what the store
    /// says.
    pub fn open(store: Store) -> Result<Self> {
        let is_remembered = store.kept(MARKER).is_some();
        if !is_remembered {
            Self::require(&store)?;
            store.keep(MARKER, Bytes::from_static(MARKER_TEXT.as_bytes()));
        }
        Ok(Self { store, is_remembered })
    }

    /// Opens a vault; makes one where nothing is.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotEmpty`] where something else is; [`VaultError::TooNew`];
    /// [`VaultError::Marker`]; what the store says.
    pub fn open_or_create(store: Store) -> Result<Self> {
        if !Self::look(&store)? {
            match store.first()? {
                // Whoever else does the same at this moment writes the same,
                None => store.put(MARKER, MARKER_TEXT)?,
                // and may have done so since we looked.
                Some(_) if Self::look(&store)? => {}
                Some(found) => {
                    return Err(VaultError::NotEmpty { place: store.place().to_owned(), found });
                }
            }
        }
        Ok(Self { store, is_remembered: false })
    }

    fn require(store: &Store) -> Result<()> {
        match Self::look(store)? {
            true => Ok(()),
            false => Err(VaultError::NotAVault { place: store.place().to_owned() }),
        }
    }

    /// Whether there is a vault.
    fn look(store: &Store) -> Result<bool> {
        let marker = match store.read_all(MARKER) {
            Ok(marker) => marker,
            Err(error) if error.is_no_bucket() => {
                return Err(VaultError::NoBucket { place: store.place().to_owned() });
            }
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        };
        if marker == MARKER_TEXT.as_bytes() {
            return Ok(true);
        }
        let place = store.place().to_owned();
        let found = String::from_utf8_lossy(&marker).trim_end().escape_default().to_string();
        match version(&found) {
            Some(version) if version > VERSION => Err(VaultError::TooNew { place, version: found }),
            _ => Err(VaultError::Marker { place, found }),
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

    /// All accounts that there is anything of: their components in segment names. Of one whose
    /// directory's name was cut, it is read from a segment; where none can be read, the directory's
    /// name stands for it.
    pub fn accounts(&self) -> Result<Vec<String>> {
        let keys = self.store.directories(ACCOUNTS)?;
        if keys.is_empty() && self.is_remembered {
            Self::require(&self.store)?;
        }
        let mut components = Vec::new();
        for key in keys {
            match component_of(&key) {
                Some(component) => components.push(component),
                None if is_shortened(&key) => components.push(self.recorded(key)?),
                None => {}
            }
        }
        Ok(components)
    }

    fn recorded(&self, key: String) -> Result<String> {
        // As a component, the name of a directory leads to that directory.
        let account = self.account_by_component(&key);
        let history = account.history()?;
        let mut recorded = history.segments().filter_map(|entry| account.recorded(entry));
        let component = recorded.find(|component| key_of(component) == key);
        Ok(component.unwrap_or(key))
    }

    /// An account, whether there is anything of it or not.
    pub fn account(&self, userid: &Userid) -> Account {
        let component = segment::names::account(userid.as_bytes());
        let (vault, key) = (self.clone(), account_key(userid));
        Account { vault, key, component }
    }

    /// An account, by its component in segment names.
    pub fn account_by_component(&self, component: &str) -> Account {
        let (vault, component) = (self.clone(), component.to_owned());
        Account { vault, key: key_of(&component), component }
    }
}

/// One account of a vault.
#[derive(Clone, Debug)]
pub struct Account {
    vault: Vault,
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
        &self.vault.store
    }

    /// The path of one of its objects.
    pub fn path(&self, name: &str) -> String {
        format!("{ACCOUNTS}/{}/{name}", self.key)
    }

    /// Whether there is no object of it at all. One request.
    pub fn is_unknown(&self) -> Result<bool> {
        Ok(self.store().list(&format!("{ACCOUNTS}/{}", self.key))?.is_empty())
    }

    /// Lists what there is of it. One request, and one for each note.
    ///
    /// # Errors
    ///
    /// What the store says, and [`VaultError::Note`]: a note that cannot be read may have been one
    /// that drops what is seen.
    pub fn history(&self) -> Result<History> {
        // A note goes when all that it names is gone. Who listed before and reads after that would
        // take what is gone for something that is there: he lists again.
        for _ in 1..LISTINGS {
            match self.look() {
                Err(error) if error.is_not_found() => {}
                looked => return self.checked(looked?),
            }
        }
        self.checked(self.look()?)
    }

    /// That there is nothing of it may be because there is no vault any more.
    fn checked(&self, history: History) -> Result<History> {
        if history.is_empty() && self.vault.is_remembered {
            Vault::require(self.store())?;
        }
        Ok(history)
    }

    fn look(&self) -> Result<History> {
        let objects = self.store().list(&format!("{ACCOUNTS}/{}", self.key))?;
        History::new(&objects, |object, name| {
            let path = self.path(object);
            let bytes = self.store().read_once(&path)?;
            Note::decode(&path, name, &bytes)
        })
    }

    /// Takes the bytes of a segment to come.
    pub fn stage(&self) -> Stage {
        self.store().stage()
    }

    /// Stores a segment. It is there, durably, when this returns.
    pub fn put_segment(&self, name: &SegmentName, staged: Staged) -> Result<Entry> {
        let size = staged.size();
        self.store().put_staged(&self.path(&name.to_string()), staged)?;
        Ok(Entry { name: name.clone(), size })
    }

    /// A segment's object from front to back, as it is stored.
    pub fn stream(&self, entry: &Entry) -> ObjectStream {
        ObjectStream::new(self.store().clone(), self.path(&entry.name.to_string()), entry.size)
    }

    /// Stores a note.
    pub fn put_note(&self, note: &Note) -> Result<()> {
        let (name, bytes) = note.encode()?;
        self.store().put(&self.path(&name.to_string()), bytes)
    }

    /// Deletes an object of the account.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.store().delete(&self.path(name))
    }
}

/// The version in the first line of a marker.
fn version(marker: &str) -> Option<u32> {
    let words = marker.strip_prefix(MARKER_WORDS)?;
    words.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

//! Names that are used once in a chain's whole life.
//!
//! busybox tar creates links last, hard ones and symbolic ones, and stops at one whose name is
//! taken by then. So no link is ever written twice in a chain. A folder that is made anew for
//! another mailbox gets a link name of its own: the folder's name, a tilde, and a number from 2
//! on. A mailbox that comes back after it was gone gets a directory of its own in the same way,
//! because the links to its messages are written once more.

use std::collections::BTreeMap;

use crate::manifest::StoredLink;
use crate::names;

/// All links of a chain so far.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// By the folder's component, the mailbox of each number from 1 on.
    by_folder: BTreeMap<String, BTreeMap<u32, String>>,
}

/// The link of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// It was written before, under this name.
    Written(String),
    /// It must be written now, under this name.
    New(String),
}

impl Links {
    /// Takes the links that the parent's manifest lists. What is no link's name is left out: it
    /// can clash with none.
    pub fn new(written: &[StoredLink]) -> Self {
        let mut links = Self::default();
        for link in written {
            if let Some((folder, number)) = split(&link.link) {
                let numbers = links.by_folder.entry(folder.to_owned()).or_default();
                numbers.insert(number, link.dir.clone());
            }
        }
        links
    }

    /// The link that leads from the folder of this name, relative to the account and in internal
    /// form (`INBOX.Incoming`), to the mailbox in `dir`. A new one is remembered.
    pub fn link(&mut self, folder: &[u8], dir: &str) -> Link {
        let folder = names::escape(folder);
        let numbers = self.by_folder.entry(folder.clone()).or_default();
        // The newest first: where a pair came back, any of its links is right.
        if let Some((number, _)) = numbers.iter().rev().find(|(_, known)| *known == dir) {
            return Link::Written(join(&folder, *number));
        }
        let number = numbers.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
        numbers.insert(number, dir.to_owned());
        Link::New(join(&folder, number))
    }

    /// The component for a mailbox that the chain's newest snapshot does not list, made of the
    /// [escaped](names::escape) form of what identifies it: one that no link leads to.
    pub fn new_dir(&self, name: &str) -> String {
        let dirs = self.by_folder.values().flat_map(BTreeMap::values);
        let used = dirs.filter_map(|dir| split(dir)).filter(|(base, _)| *base == name);
        let last = used.map(|(_, number)| number).max();
        join(name, last.map_or(1, |last| last.saturating_add(1)))
    }

    /// Every link, for the manifest; sorted.
    pub fn to_stored(&self) -> Vec<StoredLink> {
        let folders = self.by_folder.iter();
        let stored = folders.flat_map(|(folder, numbers)| {
            numbers.iter().map(|(n, dir)| StoredLink { link: join(folder, *n), dir: dir.clone() })
        });
        stored.collect()
    }
}

/// The escaped name and the number of a link or a mailbox's directory; `None` if it is neither.
pub fn split(link: &str) -> Option<(&str, u32)> {
    let (folder, number) = match link.rsplit_once('~') {
        // This tilde belongs to the mark of a name that was shortened.
        Some((before, _)) if before.ends_with('%') => (link, 1),
        Some((folder, digits)) => {
            let number: u32 = digits.parse().ok()?;
            // `+2` and `02` are numbers for parse, but not for us.
            if number < 2 || number.to_string() != digits {
                return None;
            }
            (folder, number)
        }
        None => (link, 1),
    };
    names::unescape(folder).is_ok().then_some((folder, number))
}

fn join(folder: &str, number: u32) -> String {
    if number == 1 { folder.to_owned() } else { format!("{folder}~{number}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str) -> Link {
        Link::Written(name.to_owned())
    }

    fn new(name: &str) -> Link {
        Link::New(name.to_owned())
    }

    #[test]
    fn a_pair_has_one_link_and_a_name_made_anew_gets_another() {
        let mut links = Links::default();
        assert_eq!(links.link(b"INBOX.Incoming", "d1"), new("INBOX.Incoming"));
        assert_eq!(links.link(b"INBOX.Incoming", "d1"), written("INBOX.Incoming"));
        assert_eq!(links.link(b"INBOX.Incoming", "d2"), new("INBOX.Incoming~2"));
        assert_eq!(links.link(b"INBOX.Incoming", "d3"), new("INBOX.Incoming~3"));
        assert_eq!(links.link(b"INBOX.Incoming", "d2"), written("INBOX.Incoming~2"));
        assert_eq!(links.link(b"INBOX.Incoming", "d1"), written("INBOX.Incoming"));

        let mut again = Links::new(&links.to_stored());
        assert_eq!(again.link(b"INBOX.Incoming", "d3"), written("INBOX.Incoming~3"));
        assert_eq!(again.link(b"INBOX.Incoming", "d4"), new("INBOX.Incoming~4"));
    }

    #[test]
    fn a_folder_whose_name_ends_like_a_number_clashes_with_none() {
        let mut links = Links::default();
        assert_eq!(links.link(b"INBOX.a", "d1"), new("INBOX.a"));
        assert_eq!(links.link(b"INBOX.a~2", "d2"), new("INBOX.a%7E2"));
        assert_eq!(links.link(b"INBOX.a", "d3"), new("INBOX.a~2"));
    }

    #[test]
    fn a_gap_in_the_numbers_is_never_filled() {
        let stored = [StoredLink { link: "INBOX.a~7".into(), dir: "d7".into() }];
        let mut links = Links::new(&stored);
        assert_eq!(links.link(b"INBOX.a", "d8"), new("INBOX.a~8"));
    }

    #[test]
    fn a_mailbox_that_comes_back_gets_another_directory() {
        let mut links = Links::default();
        assert_eq!(links.new_dir("id"), "id");
        links.link(b"INBOX", "id");
        links.link(b"INBOX.x", "id~3");
        links.link(b"INBOX.y", "idea~9");
        assert_eq!(links.new_dir("id"), "id~4");
        assert_eq!(links.new_dir("idea"), "idea~10");
        assert_eq!(links.new_dir("ide"), "ide");
    }

    #[test]
    fn names_that_were_shortened_take_a_number_too() {
        let long = "x".repeat(300);
        let mut links = Links::default();
        let Link::New(first) = links.link(long.as_bytes(), "d1") else { panic!("not new") };
        let Link::New(second) = links.link(long.as_bytes(), "d2") else { panic!("not new") };
        assert_eq!(split(&first), Some((first.as_str(), 1)));
        assert_eq!(split(&second), Some((first.as_str(), 2)));
        let mut again = Links::new(&links.to_stored());
        assert_eq!(again.link(long.as_bytes(), "d2"), written(&second));
    }

    #[test]
    fn what_is_no_link_name_is_none() {
        for wrong in ["", "a~", "a~1", "a~0", "a~02", "a~+2", "a~x", "a/b", "..", "a~2~3", "~2"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }
}

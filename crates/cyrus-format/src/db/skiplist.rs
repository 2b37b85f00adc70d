//! skiplist databases (`lib/cyrusdb_skiplist.c`): the default until 2.4, conversations still.
//!
//! A sorted part, left by the last checkpoint, is followed by a log of transactions. The pointers
//! between the nodes are never followed here: Cyrus changes them before a transaction is finished,
//! so after a crash they lead into it. Nothing in such a file has a checksum.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Db, DbFormat, Entry};
use crate::bytes::Reader;
use crate::error::FormatError;

const WHAT: &str = "skiplist";

/// What a file begins with.
pub const MAGIC: &[u8] = b"\xa1\x02\x8b\x0dskiplist file\0\0\0";

const VERSION: u32 = 1;
const HEADER_SIZE: usize = 48;
const MAX_LEVEL: usize = 20;
/// Stands behind the pointers of a node, whose number is not written anywhere.
const END_OF_POINTERS: u32 = u32::MAX;

const INORDER: u32 = 1;
const ADD: u32 = 2;
const DELETE: u32 = 4;
const COMMIT: u32 = 255;
const DUMMY: u32 = 257;

/// Reads a skiplist: the sorted part, then every finished transaction of the log.
///
/// What follows the last of them is left out; see [`Db::recovered`].
///
/// # Errors
/// [`FormatError::Foreign`] for another magic, [`FormatError::TooNew`] for a newer version,
/// [`FormatError::Damaged`] if the first node cannot be read.
pub fn read(bytes: &[u8]) -> Result<Db<'_>, FormatError> {
    let mut reader = Reader::new(WHAT, bytes);
    if !bytes.starts_with(MAGIC) {
        return Err(FormatError::Foreign { what: WHAT, detail: "another magic".to_owned() });
    }
    let log_start = read_header(&mut reader)?;
    match Item::read(&mut reader)? {
        Item::Dummy => {}
        _ => return Err(reader.damaged("the first node is not the list's head")),
    }

    let mut notes = Vec::new();
    let mut list = List::default();
    let trouble = list.replay(&mut reader);
    if let Some(trouble) = trouble {
        notes.push(format!("not readable to the end: {trouble}"));
    }
    if bytes.len() < log_start {
        notes
            .push(format!("its sorted part should be {log_start} bytes, {} are left", bytes.len()));
    }
    let unfinished = bytes.len() - list.committed;
    if unfinished > 0 {
        notes.push(format!("{unfinished} bytes behind the last finished transaction are left out"));
    }
    if list.strange_deletes > 0 {
        notes.push(format!("deletions of nothing: {}", list.strange_deletes));
    }
    Ok(Db::new(DbFormat::Skiplist, list.into_entries(), notes))
}

/// Reads the header and returns where the log is said to start. The other fields are of no use to
/// a reader that follows no pointers.
fn read_header(reader: &mut Reader<'_>) -> Result<usize, FormatError> {
    let mut header = reader.sub(HEADER_SIZE)?;
    header.take(MAGIC.len())?;
    let version = header.u32()?;
    if version > VERSION {
        return Err(FormatError::TooNew { what: WHAT, version, newest: VERSION });
    }
    let (_minor, _max_level, _level, _size) =
        (header.u32()?, header.u32()?, header.u32()?, header.u32()?);
    // A number of 32 bits fits.
    Ok(header.u32()? as usize)
}

/// What the nodes and the log amount to.
#[derive(Default)]
struct List<'a> {
    /// Every node ever seen, ascending by offset: deletions name their victim by that.
    nodes: Vec<Node<'a>>,
    /// Which of the nodes are in the list.
    live: BTreeMap<&'a [u8], usize>,
    /// The end of the last finished transaction.
    committed: usize,
    strange_deletes: usize,
}

struct Node<'a> {
    offset: u64,
    key: &'a [u8],
    value: &'a [u8],
    live: bool,
}

enum Change {
    /// The number of the node.
    Add(usize),
    /// The offset of the victim.
    Delete(u64),
}

impl<'a> List<'a> {
    /// Reads to the end of the file, or to where it makes no sense any more, which is returned.
    fn replay(&mut self, reader: &mut Reader<'a>) -> Option<FormatError> {
        let mut in_log = false;
        let mut transaction = Vec::new();
        self.committed = reader.consumed();
        while !reader.is_empty() {
            let offset = reader.offset();
            let item = match Item::read(reader) {
                Ok(item) => item,
                Err(trouble) => return Some(trouble),
            };
            in_log |= !matches!(item, Item::Sorted { .. });
            match item {
                Item::Sorted { key, value } if !in_log => {
                    let number = self.note(offset, key, value);
                    self.add(number);
                    self.committed = reader.consumed();
                }
                Item::Add { key, value } => {
                    transaction.push(Change::Add(self.note(offset, key, value)));
                }
                Item::Delete { victim } => transaction.push(Change::Delete(victim)),
                Item::Commit => {
                    for change in transaction.drain(..) {
                        match change {
                            Change::Add(number) => self.add(number),
                            Change::Delete(victim) => self.delete(victim),
                        }
                    }
                    self.committed = reader.consumed();
                }
                Item::Zero => {}
                Item::Sorted { .. } | Item::Dummy => {
                    return Some(reader.damaged("a node of the sorted part in the log"));
                }
            }
        }
        None
    }

    fn into_entries(self) -> Vec<Entry<'a>> {
        let nodes = self.live.values().filter_map(|number| self.nodes.get(*number));
        nodes.map(|node| (Cow::Borrowed(node.key), Cow::Borrowed(node.value))).collect()
    }

    fn note(&mut self, offset: u64, key: &'a [u8], value: &'a [u8]) -> usize {
        self.nodes.push(Node { offset, key, value, live: false });
        self.nodes.len() - 1
    }

    fn add(&mut self, number: usize) {
        self.nodes[number].live = true;
        if let Some(replaced) = self.live.insert(self.nodes[number].key, number) {
            self.nodes[replaced].live = false;
        }
    }

    fn delete(&mut self, victim: u64) {
        let found = self.nodes.binary_search_by_key(&victim, |node| node.offset);
        match found.ok().and_then(|number| self.nodes.get_mut(number)).filter(|node| node.live) {
            Some(node) => {
                node.live = false;
                self.live.remove(node.key);
            }
            None => self.strange_deletes += 1,
        }
    }
}

enum Item<'a> {
    Dummy,
    Sorted {
        key: &'a [u8],
        value: &'a [u8],
    },
    Add {
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        victim: u64,
    },
    Commit,
    /// Old versions left these behind when they cut a file back.
    Zero,
}

impl<'a> Item<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, FormatError> {
        let before = reader.clone();
        match reader.u32()? {
            0 => Ok(Item::Zero),
            COMMIT => Ok(Item::Commit),
            DELETE => Ok(Item::Delete { victim: reader.u32()?.into() }),
            kind @ (DUMMY | INORDER | ADD) => {
                let key = padded(reader)?;
                let value = padded(reader)?;
                let mut level = 0;
                while reader.u32()? != END_OF_POINTERS {
                    level += 1;
                    if level > MAX_LEVEL {
                        return Err(before.damaged("a node with too many pointers"));
                    }
                }
                Ok(match kind {
                    DUMMY => Item::Dummy,
                    INORDER => Item::Sorted { key, value },
                    _ => Item::Add { key, value },
                })
            }
            other => Err(before.damaged(format!("no record has type {other}"))),
        }
    }
}

/// Reads a length, so many bytes, and what rounds them up to four.
fn padded<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], FormatError> {
    // A number of 32 bits fits.
    let length = reader.u32()? as usize;
    let bytes = reader.take(length)?;
    reader.take(length.next_multiple_of(4) - length)?;
    Ok(bytes)
}

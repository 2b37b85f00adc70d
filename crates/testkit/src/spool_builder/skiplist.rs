//! A fresh skiplist file, as a checkpoint of Cyrus 2.4 leaves it (`lib/cyrusdb_skiplist.c`).

use std::collections::BTreeMap;

const HEADER: usize = 48;
const MOST_LEVELS: usize = 20;
const END_OF_NODE: u32 = 0xffff_ffff;

/// Writes all entries as the sorted part of the file, with an empty log behind it.
pub(super) fn write(entries: &BTreeMap<Vec<u8>, Vec<u8>>, recovered: u32) -> Vec<u8> {
    let levels: Vec<usize> = (1..=entries.len()).map(level).collect();
    let mut offsets = Vec::with_capacity(entries.len());
    let mut end = HEADER + node_size(b"", b"", MOST_LEVELS);
    for ((key, value), level) in entries.iter().zip(&levels) {
        offsets.push(end);
        end += node_size(key, value, *level);
    }
    // Where each level goes on behind a node, found from the end.
    let mut next = [0; MOST_LEVELS];
    let mut pointers = vec![next; entries.len()];
    for at in (0..entries.len()).rev() {
        pointers[at] = next;
        next[..levels[at]].fill(offsets[at]);
    }
    let mut file = Vec::with_capacity(end);
    file.extend_from_slice(b"\xa1\x02\x8b\x0dskiplist file\0\0\0");
    let highest = levels.iter().max().copied().unwrap_or(0);
    for word in [1, 2, MOST_LEVELS, highest, entries.len(), end] {
        put(&mut file, word as u32);
    }
    put(&mut file, recovered);
    put_node(&mut file, 257, b"", b"", &next);
    for (at, (key, value)) in entries.iter().enumerate() {
        put_node(&mut file, 1, key, value, &pointers[at][..levels[at]]);
    }
    file
}

/// Every second node reaches level 2, every fourth level 3, and so on.
fn level(number: usize) -> usize {
    (number.trailing_zeros() as usize + 1).min(MOST_LEVELS)
}

fn node_size(key: &[u8], value: &[u8], levels: usize) -> usize {
    16 + key.len().next_multiple_of(4) + value.len().next_multiple_of(4) + 4 * levels
}

fn put_node(file: &mut Vec<u8>, kind: u32, key: &[u8], value: &[u8], pointers: &[usize]) {
    put(file, kind);
    for part in [key, value] {
        put(file, part.len() as u32);
        file.extend_from_slice(part);
        file.resize(file.len().next_multiple_of(4), 0);
    }
    for pointer in pointers {
        put(file, *pointer as u32);
    }
    put(file, END_OF_NODE);
}

fn put(file: &mut Vec<u8>, word: u32) {
    file.extend_from_slice(&word.to_be_bytes());
}

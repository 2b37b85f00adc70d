//! A crash leaves some blocks of a transaction on the disk and others not.

use cyrus_format::db;

use crate::pairs;
use crate::samples::{
    FINISHED_SKIPLIST, FINISHED_TWOSKIP, HISTORY_SKIPLIST, HISTORY_TWOSKIP, UNFINISHED_TWOSKIP,
    history,
};

const BLOCK: usize = 512;
const HEADER: usize = 64;

/// What is on the disk if of each block of `after` only those in `written` arrived. The header,
/// which is written last, is that of `header`.
fn torn(before: &[u8], after: &[u8], header: &[u8], written: u32) -> Vec<u8> {
    let mut file = before.to_vec();
    for (number, block) in after.chunks(BLOCK).enumerate() {
        if written >> number & 1 == 1 {
            let start = number * BLOCK;
            let end = start + block.len();
            file.resize(file.len().max(end), 0);
            file[start..end].copy_from_slice(block);
        }
    }
    file[..HEADER].copy_from_slice(&header[..HEADER]);
    file
}

#[test]
fn twoskip_is_as_before_whatever_blocks_arrived() {
    let blocks = FINISHED_TWOSKIP.len().div_ceil(BLOCK);
    assert!((8..12).contains(&blocks), "{blocks} blocks");
    // The header of the unfinished file says DIRTY.
    for header in [HISTORY_TWOSKIP, UNFINISHED_TWOSKIP] {
        for written in 0..1 << blocks {
            let file = torn(HISTORY_TWOSKIP, FINISHED_TWOSKIP, header, written);
            let db = db::read(&file).expect("nothing is damaged");
            assert_eq!(pairs(&db), history(), "blocks {written:b}");
            let told = db.recovered.unwrap_or_default();
            assert!(!told.contains("rebuilt"), "blocks {written:b}: {told}");
        }
    }
}

#[test]
fn garbage_behind_the_end_is_left_out() {
    let ours = db::twoskip::write_fresh(&[("a", "1"), ("b", "2")]).expect("in order");
    for file in [HISTORY_TWOSKIP, HISTORY_SKIPLIST, &ours] {
        let clean = db::read(file).expect("it is whole");
        // Zeros may stand in the log of a skiplist; all else is no record.
        for garbage in [&[0; 4][..], &[0x2b; 100], &[0xff; 1000], b" BLANK\x07\xa0", file] {
            let longer = [file, garbage].concat();
            let db = db::read(&longer).expect("nothing is damaged");
            assert_eq!(db.entries, clean.entries);
            assert!(db.recovered.is_some());
        }
    }
}

#[test]
fn no_pointer_of_a_skiplist_matters() {
    // Everything that a transaction changes in old nodes are pointers.
    let mut file = FINISHED_SKIPLIST[..HISTORY_SKIPLIST.len()].to_vec();
    assert_ne!(file, HISTORY_SKIPLIST);
    file.extend_from_slice(&FINISHED_SKIPLIST[HISTORY_SKIPLIST.len()..FINISHED_SKIPLIST.len() - 4]);
    let db = db::read(&file).expect("nothing is damaged");
    assert_eq!(pairs(&db), history());
}

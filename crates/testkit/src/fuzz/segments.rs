//! Archives of segments, and what they are made of.

use std::io::Read;
use std::path::{Component, Path};

use segment::chain;
use segment::compress::{Decoder, SeekableZstd, sniff};
use segment::end::{END_BYTES, EndBlock};
use segment::manifest::Manifest;
use segment::names::{EntryName, Unescaped, escape, parse_folder_target, unescape};
use segment::reader::survey;
use segment::{ReadAt, verify};

/// No more of a decoded stream is looked at.
const DECODED: u64 = 8 << 20;

/// Everything that can be read of an archive.
pub(super) fn archive(bytes: &[u8]) {
    let bytes = bytes.to_vec();
    let found = survey(&bytes);
    let mut end = 0;
    for segment in &found.segments {
        assert!(segment.start() >= end, "segments overlap");
        end = segment.start() + segment.bytes();
        assert!(end <= bytes.len() as u64, "a segment behind the end");
        if let Ok(manifest) = segment.manifest() {
            for row in manifest.table().iter().take(64) {
                let located = manifest.table().find(&row.guid).expect("a row is found by its GUID");
                // Damage is for the reader to notice; here it only must not panic.
                drop(segment.message(&row.guid, located));
            }
            for file in &manifest.head().account_files {
                drop(segment.read_file(file));
            }
        }
        drop(verify::segment(segment, &|_| false, &mut |_| {}));
    }
    for account in chain::accounts(&found.segments) {
        for chain in chain::chains(&found.segments, account).unwrap_or_default() {
            drop(chain.newest());
        }
    }
}

/// What is read is written as it was.
pub(super) fn end_block(bytes: &[u8]) {
    let Some(block) = bytes.first_chunk::<END_BYTES>() else { return };
    if let Ok(end) = EndBlock::decode(block) {
        assert_eq!(end.encode(), *block);
    }
}

/// Any bytes have one component, that component has these bytes, and no name leads elsewhere.
pub(super) fn entry_names(bytes: &[u8]) {
    let component = escape(bytes);
    assert!(is_plain_component(&component), "{component}");
    match unescape(&component) {
        Ok(Unescaped::Whole(name)) => assert_eq!(name, bytes),
        Ok(Unescaped::Shortened) => assert!(bytes.len() > 60, "{component} is shortened"),
        Err(error) => panic!("{component}: {error}"),
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(Unescaped::Whole(name)) = unescape(text)
    {
        assert_eq!(escape(&name), text, "two components for one name");
    }
    if let Ok(name) = EntryName::parse(bytes) {
        let mut written = Vec::new();
        name.write_to(&mut written);
        assert_eq!(written, bytes, "{name}");
        let text = std::str::from_utf8(bytes).expect("entry names are ASCII");
        let is_plain = |part| matches!(part, Component::Normal(_));
        assert!(Path::new(text).components().all(is_plain), "{text}");
    }
    if let Some(directory) = parse_folder_target(bytes) {
        assert!(is_plain_component(directory), "{directory}");
    }
}

fn is_plain_component(component: &str) -> bool {
    let mut parts = Path::new(component).components();
    let first = parts.next();
    matches!(first, Some(Component::Normal(part)) if part == component)
        && parts.next().is_none()
        && component.len() <= 255
}

/// A manifest is what its rows and its head say.
pub(super) fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes.to_vec()) else { return };
    let table = manifest.table();
    assert_eq!(table.iter().len(), table.len());
    for row in table.iter() {
        assert!(table.find(&row.guid).is_some(), "{} is not found", row.guid);
    }
}

/// Compressed streams, front to back and by their seek tables.
pub(super) fn compression(bytes: &[u8]) {
    if let Ok(decoder) = Decoder::new(bytes, sniff(bytes)) {
        let mut decoded = Vec::new();
        drop(decoder.take(DECODED).read_to_end(&mut decoded));
        assert!(decoded.len() as u64 <= DECODED);
    }
    let Ok(seekable) = SeekableZstd::open(bytes.to_vec()) else { return };
    let mut buffer = [0; 64];
    for offset in [0, seekable.len() / 2, seekable.len().saturating_sub(64), u64::MAX - 8] {
        drop(seekable.read_exact_at(offset, &mut buffer));
    }
}

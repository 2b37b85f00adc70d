//! The files below `tests/fixtures/indexes`; its README says how they were made.

use std::fs;
use std::path::Path;

/// Versions of which a real Cyrus wrote a sample.
pub const REAL: [u32; 11] = [6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17];

/// One mailbox as a real Cyrus left it.
pub struct Sample {
    pub version: u32,
    pub index: Vec<u8>,
    pub header: Vec<u8>,
    pub cache: Vec<u8>,
    /// What mbexamine prints about it.
    pub mbexamine: String,
    /// What `unexpunge -l` prints about it.
    pub unexpunge: String,
}

pub fn real(version: u32) -> Sample {
    let folder = format!("v{version}");
    let text = |name| String::from_utf8(file(&folder, name)).expect("the tools print ASCII");
    Sample {
        version,
        index: file(&folder, "cyrus.index"),
        header: file(&folder, "cyrus.header"),
        cache: file(&folder, "cyrus.cache"),
        mbexamine: text("mbexamine.txt"),
        unexpunge: text("unexpunge.txt"),
    }
}

pub fn file(folder: &str, name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/indexes");
    let path = root.join(folder).join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

//! Databases: known bytes, files of a real Cyrus, damaged files, and Cyrus as the judge of ours.

mod batch;
mod crash;
mod cyrus;
mod damage;
mod known;
mod samples;

use cyrus_format::db::{self, Db, DbFormat};

use batch::Pairs;

/// What is in a database.
fn pairs(db: &Db<'_>) -> Pairs {
    db.entries.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// Checks that a file is in perfect order and holds just these entries.
#[track_caller]
fn check_clean(file: &[u8], format: DbFormat, expected: &Pairs) {
    let db = db::read(file).expect("it is whole");
    assert_eq!((db.format, db.recovered.as_deref()), (format, None));
    assert_eq!(&pairs(&db), expected);
    for (key, value) in expected {
        assert_eq!(db.get(key), Some(value.as_slice()));
    }
    assert_eq!(db.get(b"there is no such key"), None);
}

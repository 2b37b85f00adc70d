//! The on-disk formats of Cyrus IMAP, read and written as bytes.

//! Operations on accounts that exist in memory only: no spool, no Cyrus, no file.

mod account;
mod archive;
mod catalog;
mod changes;
mod compare;
mod costs;
mod differences;
mod finding;
mod history;
mod mail;
mod orphans;
mod parts;
mod past;
mod replica;
mod replicate;
mod replicate_brake;
mod replicate_shared;
mod replicate_unknown;
mod restore;
mod restore_undo;
mod split;
mod split_cases;
mod spool;
mod tree;
mod trouble;

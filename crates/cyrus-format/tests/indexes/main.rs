//! cyrus.index in all versions, and the two files that share its records or its offsets.

mod cache;
mod expunge;
mod generated;
mod handmade;
mod real;
mod samples;
mod tally;

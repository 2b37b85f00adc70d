//! Whom all is told, before anything is done.

use model::{Finding, Uid};

use super::change::{Change, Field, Why};

/// What is told.
#[derive(Clone, Copy, Debug)]
pub enum Told<'t> {
    /// What is to be different.
    Change(&'t Change),
    /// What is wrong and stays so.
    Left(&'t Finding),
}

/// Tells of one mailbox, and counts.
pub(super) struct Tell<'t> {
    place: String,
    sink: &'t mut dyn FnMut(Told<'_>),
    /// Changes that were told.
    pub changes: u64,
    /// Findings that were told.
    pub left: u64,
}

impl<'t> Tell<'t> {
    pub fn of(place: impl ToString, sink: &'t mut dyn FnMut(Told<'_>)) -> Self {
        Self { place: place.to_string(), sink, changes: 0, left: 0 }
    }

    pub fn change(&mut self, uid: Option<Uid>, why: Why, fields: Vec<Field>) {
        self.changes += 1;
        (self.sink)(Told::Change(&Change { place: self.place.clone(), uid, why, fields }));
    }

    pub fn left(&mut self, finding: &Finding) {
        self.left += 1;
        (self.sink)(Told::Left(finding));
    }

    pub fn place(&self) -> &str {
        &self.place
    }
}

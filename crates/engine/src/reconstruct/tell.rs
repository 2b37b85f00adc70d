//! Whom all is told, before anything is done.

use std::fmt;

use model::{Finding, FindingKind, Uid};

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
    /// Changes of which it is not certain yet that they can be made.
    held: Option<Vec<Change>>,
}

impl<'t> Tell<'t> {
    pub fn of(place: impl ToString, sink: &'t mut dyn FnMut(Told<'_>)) -> Self {
        Self { place: place.to_string(), sink, changes: 0, left: 0, held: None }
    }

    pub fn change(&mut self, uid: Option<Uid>, why: Why, fields: Vec<Field>) {
        let change = Change { place: self.place.clone(), uid, why, fields };
        match &mut self.held {
            Some(held) => held.push(change),
            None => {
                self.changes += 1;
                (self.sink)(Told::Change(&change));
            }
        }
    }

    /// Keeps changes until it is certain whether they can be made.
    pub fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// They can: tells those that were kept, and those that follow.
    pub fn release(&mut self) {
        for change in self.held.take().into_iter().flatten() {
            self.changes += 1;
            (self.sink)(Told::Change(&change));
        }
    }

    /// They cannot.
    pub fn forget(&mut self) {
        self.held = None;
    }

    pub fn left(&mut self, finding: &Finding) {
        self.left += 1;
        (self.sink)(Told::Left(finding));
    }

    /// Tells what is wrong with the mailbox, and stays so.
    pub fn wrong(&mut self, kind: FindingKind, detail: impl fmt::Display) {
        self.left(&Finding::new(kind, &self.place, detail));
    }

    /// The same of one of its messages.
    pub fn wrong_at(&mut self, uid: Uid, kind: FindingKind, detail: impl fmt::Display) {
        self.left(&Finding::new(kind, &self.place, detail).at_uid(uid.0));
    }
}

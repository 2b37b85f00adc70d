//! The records of a command while it is being read: there may be a million of them.

use csync::record::Record;
use csync::reply::No;
use spool::replica::{Replica, Scratch};

use crate::handler::Failure;

/// So many are kept in memory; the others lie on disk.
const KEPT: usize = 4096;

/// Records in the order in which they came.
#[derive(Debug, Default)]
pub struct Gathered {
    kept: Vec<Record>,
    others: Option<Scratch>,
    count: usize,
}

impl Gathered {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Adds one.
    pub fn push(&mut self, record: Record, replica: &Replica) -> Result<(), Failure> {
        self.count += 1;
        if self.count <= KEPT {
            self.kept.push(record);
            return Ok(());
        }
        let others = match &mut self.others {
            Some(others) => others,
            none => none.insert(replica.files().scratch()?),
        };
        let mut value = Vec::new();
        record.write(&mut value);
        Ok(others.push(&value)?)
    }

    /// All of them.
    pub fn iter(&mut self) -> Result<impl Iterator<Item = Result<Record, Failure>>, Failure> {
        let others = self.others.as_mut().map(Scratch::values).transpose()?;
        let others = others.into_iter().flatten().map(|value| {
            let record = Record::parse(&value?);
            record.map_err(|error| Failure::refused(No::Unknown, error.to_string()))
        });
        Ok(self.kept.iter().cloned().map(Ok).chain(others))
    }
}

//! What the operations want of a chain, whatever its segments borrow from.

use model::Guid;
use segment::chain::Chain;
use segment::manifest::{Located, StoredFile};
use segment::reader::{ReadError, SegmentRef};

/// A chain from which files and messages are had. Shared by several threads.
///
/// A chain that opens its segments late is invariant in what they borrow from; behind this, only
/// the borrow of the chain itself is left.
pub(crate) trait Held: Sync {
    /// The bytes of a file that a manifest lists.
    fn file(&self, file: &StoredFile) -> Result<Vec<u8>, ReadError>;

    /// Where the bytes of a message are, as of segment `upto`, passing over so many segments that
    /// hold it, too.
    fn find(
        &self,
        guid: &Guid,
        upto: u32,
        passed: usize,
    ) -> Result<Option<(SegmentRef<'_>, Located)>, ReadError>;

    /// Adds the messages of the parts behind the newest snapshot: no mailbox lists them yet.
    fn add_parts(&self, guids: &mut Vec<Guid>) -> Result<(), ReadError>;
}

impl Held for Chain<'_> {
    fn file(&self, file: &StoredFile) -> Result<Vec<u8>, ReadError> {
        Chain::file(self, file)
    }

    fn find(
        &self,
        guid: &Guid,
        upto: u32,
        passed: usize,
    ) -> Result<Option<(SegmentRef<'_>, Located)>, ReadError> {
        let found = self.find_copy(guid, upto, passed)?;
        Ok(found.map(|(segment, located)| (segment.clone(), located)))
    }

    fn add_parts(&self, guids: &mut Vec<Guid>) -> Result<(), ReadError> {
        for part in self.snapshots().iter().rev().take_while(|segment| segment.is_part()) {
            part.segment()?.each_row(|row| guids.push(row.guid))?;
        }
        Ok(())
    }
}

//! What a release of Cyrus writes.

/// A release of Cyrus, for what its files look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Era {
    /// 2.3.7 to 2.3.9: index 9, no GUIDs, cyrus.expunge, text in mailboxes.db.
    V2_3_9,
    /// 2.3.10 to 2.3.20: index 10, otherwise the same.
    V2_3,
    /// 2.4: index 12, expunged messages stay in the index.
    V2_4,
    /// 2.5: index 13, dlists in mailboxes.db.
    V2_5,
    /// 3.0: index 13, uniqueids that are UUIDs.
    V3_0,
    /// 3.2: index 16.
    V3_2,
    /// 3.4: index 17, mailboxes still in directories named like them.
    V3_4,
    /// 3.6 and 3.8: index 17, mailboxes in directories named by uniqueid.
    V3_6,
    /// 3.10 and 3.12: index 19.
    V3_10,
    /// 3.13: index 20.
    V3_13,
}

impl Era {
    /// Every era, oldest first.
    pub const ALL: [Era; 10] = [
        Era::V2_3_9,
        Era::V2_3,
        Era::V2_4,
        Era::V2_5,
        Era::V3_0,
        Era::V3_2,
        Era::V3_4,
        Era::V3_6,
        Era::V3_10,
        Era::V3_13,
    ];

    /// The version of cyrus.index.
    pub fn index_version(self) -> u32 {
        match self {
            Era::V2_3_9 => 9,
            Era::V2_3 => 10,
            Era::V2_4 => 12,
            Era::V2_5 | Era::V3_0 => 13,
            Era::V3_2 => 16,
            Era::V3_4 | Era::V3_6 => 17,
            Era::V3_10 => 19,
            Era::V3_13 => 20,
        }
    }

    /// The version of the records in cyrus.cache.
    pub fn cache_version(self) -> u16 {
        match self {
            Era::V2_3_9 | Era::V2_3 => 2,
            Era::V2_4 | Era::V2_5 => 3,
            Era::V3_0 => 6,
            Era::V3_2 | Era::V3_4 => 10,
            Era::V3_6 => 11,
            Era::V3_10 => 13,
            Era::V3_13 => 14,
        }
    }

    /// Whether mailboxes lie in directories named by their uniqueids.
    pub fn by_uniqueid(self) -> bool {
        self >= Era::V3_6
    }

    /// Whether expunged messages are listed in cyrus.expunge.
    pub fn has_expunge_file(self) -> bool {
        self <= Era::V2_3
    }

    /// Whether the owner's `\Seen` is kept outside of the index.
    pub fn has_seen_of_owner(self) -> bool {
        self <= Era::V2_3
    }
}

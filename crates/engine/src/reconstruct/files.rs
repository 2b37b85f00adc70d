//! Which file is that of a message, where there are two.

use std::collections::BTreeMap;

use model::Uid;
use spool::MessageStat;

use super::remains::Trace;

/// One file for each UID. A move to the archive partition, or back, that was interrupted leaves one on either
/// side, of which one may be torn: the one counts whose size is that of the record, and if both have it, the one
/// that the record names. Without a record, it is the longer one.
pub(super) fn choose(files: Vec<MessageStat>, traces: &[Trace]) -> BTreeMap<Uid, MessageStat> {
    let mut chosen: BTreeMap<Uid, MessageStat> = BTreeMap::new();
    let mut twice: BTreeMap<Uid, MessageStat> = BTreeMap::new();
    for file in files {
        match chosen.contains_key(&file.uid) {
            true => drop(twice.insert(file.uid, file)),
            false => drop(chosen.insert(file.uid, file)),
        }
    }
    if twice.is_empty() {
        return chosen;
    }
    let records: BTreeMap<Uid, &Trace> =
        traces.iter().map(|trace| (trace.record.uid, trace)).collect();
    for (uid, other) in twice {
        let Some(first) = chosen.get_mut(&uid) else { continue };
        let worth = |file: &MessageStat| match records.get(&uid).map(|trace| &trace.record) {
            Some(record) => {
                let is_named = file.is_archived == record.is_archived();
                (file.is_file, u64::from(file.size == record.size), is_named)
            }
            None => (file.is_file, file.size, false),
        };
        if worth(&other) > worth(first) {
            *first = other;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use model::{Record, SystemFlags, Timestamp};

    use super::*;
    use crate::reconstruct::remains::Trust;

    fn file(size: u64, is_archived: bool) -> MessageStat {
        MessageStat {
            uid: Uid(7),
            inode: (1, size),
            links: 1,
            size,
            is_file: true,
            mtime: Timestamp::default(),
            is_archived,
        }
    }

    fn record(is_archived: bool) -> Trace {
        let mut record = Record { uid: Uid(7), size: 100, ..Record::default() };
        if is_archived {
            record.system_flags = SystemFlags::ARCHIVED;
        }
        Trace { record, trust: Trust::Whole }
    }

    fn chosen(files: [MessageStat; 2], traces: &[Trace]) -> (u64, bool) {
        let chosen = choose(files.to_vec(), traces)[&Uid(7)];
        (chosen.size, chosen.is_archived)
    }

    #[test]
    fn a_torn_copy_is_not_taken_for_a_whole_one() {
        for is_archived in [false, true] {
            let traces = [record(is_archived)];
            assert_eq!(chosen([file(40, false), file(100, true)], &traces), (100, true));
            assert_eq!(chosen([file(100, false), file(0, true)], &traces), (100, false));
            let both = [file(100, false), file(100, true)];
            assert_eq!(chosen(both, &traces), (100, is_archived));
        }
        assert_eq!(chosen([file(40, false), file(100, true)], &[]), (100, true));
        assert_eq!(chosen([file(40, false), file(40, true)], &[]), (40, false));
    }
}

//! One mailbox: what is left of it, and what can be made of that.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};

use cyrus_format::header::{HeaderForm, MailboxHeader, file_crc};
use cyrus_format::index::{Index, IndexHeader};
use cyrus_format::{cache, expunge};
use model::{Finding, FindingKind, MboxName, Modseq, Record, Uid, UserFlags, Userid};
use spool::{MessageStat, Rewriting};

use super::change::{self, Field, Value, Why};
use super::header::{Sources, header};
use super::orphans;
use super::read;
use super::records::{Judge, in_order, to_read};
use super::remains::{Remains, Trace, Trust};
use super::sums::{self, Fresh, Notes};
use super::tell::Tell;
use super::{Options, Planned};
use crate::audit::{Subject, damaged_cache};
use crate::ports::Monitor;

/// The first version whose servers read a message anew when its cache is not there (3.0); those before do not
/// give it.
const FIRST_WITHOUT_CACHE: u32 = 13;

/// The modseq of what any master knows better.
const OLDEST: Modseq = Modseq(1);

/// The first version that says which cyrus.header it was written with.
const FIRST_WITH_HEADER_CRC: u32 = 12;

/// What is known of the account beside the mailbox.
pub(super) struct Around<'a> {
    pub owner: Option<&'a Userid>,
    /// The version of its other indexes.
    pub likely: Option<u32>,
    /// The form of its other headers.
    pub form: HeaderForm,
    pub quota_roots: BTreeSet<MboxName>,
}

/// Plans what a mailbox is to be.
pub(super) fn plan(
    subject: &Subject,
    around: &Around<'_>,
    options: &Options<'_>,
    tell: &mut Tell<'_>,
    monitor: &dyn Monitor,
) -> Planned {
    let mut planned = Planned { mailboxes: 1, ..Planned::default() };
    // What is wrong with its directory, or with files that nobody makes anew.
    let others = subject.findings.iter().filter(|finding| !is_made_anew(finding.kind));
    others.for_each(|finding| tell.left(finding));
    if subject.findings.iter().any(|finding| finding.kind == FindingKind::MailboxMissing) {
        return planned;
    }
    let files = match subject.frozen.stat_messages() {
        Ok(stats) => stats.into_iter().map(|stat| (stat.uid, stat)).collect(),
        Err(error) => {
            let detail = format!("its directory cannot be listed: {error}");
            tell.left(&Finding::new(FindingKind::MessageUnreadable, &subject.name, detail));
            return planned;
        }
    };
    if let Some(Err(error)) = subject.files.get(INDEX).map(|bytes| Index::parse(bytes))
        && matches!(error, cyrus_format::FormatError::TooNew { .. })
    {
        tell.left(&Finding::new(FindingKind::IndexTooNew, &subject.name, error));
        return planned;
    }
    let before = tell.changes;
    let mut work = Work { subject, around, options, files, monitor, planned: &mut planned };
    let rewriting = work.run(tell);
    if tell.changes > before {
        planned.rewritings.extend(rewriting);
    }
    planned
}

const INDEX: &str = "cyrus.index";
const EXPUNGE: &str = "cyrus.expunge";

/// What is said of files that are made anew is said by what they become.
fn is_made_anew(kind: FindingKind) -> bool {
    [FindingKind::IndexUnreadable, FindingKind::HeaderUnreadable].contains(&kind)
}

struct Work<'w> {
    subject: &'w Subject,
    around: &'w Around<'w>,
    options: &'w Options<'w>,
    files: BTreeMap<Uid, MessageStat>,
    monitor: &'w dyn Monitor,
    planned: &'w mut Planned,
}

/// The messages of 2.3 that are expunged and kept.
#[derive(Default)]
struct Expunged {
    uids: BTreeSet<Uid>,
    /// Whether there are some that nobody can read: then a file without a record may be theirs.
    is_unreadable: bool,
}

impl Work<'_> {
    fn run(&mut self, tell: &mut Tell<'_>) -> Option<Rewriting> {
        let subject = self.subject;
        let mut remains =
            Remains::of(subject.files.get(INDEX).map(Vec::as_slice), self.around.likely, tell);
        let expunged = self.expunged(tell);
        let traces = in_order(&mut remains, &self.files, tell);
        let last_uid = self.last_uid(&remains, &expunged);
        let known: BTreeSet<Uid> = traces.iter().map(|trace| trace.record.uid).collect();
        let has_record = |uid| known.contains(&uid) || expunged.uids.contains(&uid);
        let orphans: Vec<MessageStat> = match expunged.is_unreadable {
            true => Vec::new(),
            false => orphans::find(&self.files, has_record, tell),
        };
        let wanted = to_read(&traces, &orphans, &self.files, self.options);
        self.monitor.expect(wanted.len() as u64);
        let read = read::all(&subject.frozen, &wanted, self.options, self.monitor);
        self.planned.messages += (traces.len() + orphans.len()) as u64;
        self.planned.read += wanted.iter().map(|stat| stat.size).sum::<u64>();

        let (names, header_bytes) = self.header(&traces, tell);
        let version = remains.version.or(self.around.likely).unwrap_or(options_version(self));
        let bad_cache = self.bad_cache(&traces, &remains, version, tell);
        let base = self.believed_header(&remains, &traces, last_uid);
        let judge = Judge {
            options: self.options,
            files: &self.files,
            read: &read,
            bad_cache: &bad_cache,
            named: named(&names),
            modseq: match self.options.is_replica {
                true => OLDEST,
                false => next_modseq(base.as_ref(), &traces),
            },
            has_archive: subject.frozen.has_archive(),
        };
        let mut records: Vec<Record> =
            traces.into_iter().filter_map(|trace| judge.judge(trace, tell)).collect();
        let taken =
            orphans::take(&orphans, last_uid, remains.has_lost, &remains.tail, &judge, tell);
        records.extend(taken.records);
        records.sort_by_key(|record| record.uid);
        let last_uid = self.highest_name(last_uid, &records);
        let index = self.index(
            &remains,
            (base, version, last_uid),
            &records,
            (&names, header_bytes.as_deref()),
            tell,
        )?;
        Some(Rewriting {
            mailbox: subject.name.clone(),
            renumbered: taken.renumbered,
            header: header_bytes,
            expunge: self.without_overlaps(&records, tell),
            index: Some(index),
        })
    }

    /// The UIDs in cyrus.expunge.
    fn expunged(&self, tell: &mut Tell<'_>) -> Expunged {
        match self.subject.files.get(EXPUNGE).map(|bytes| expunge::parse(bytes)) {
            None => Expunged::default(),
            Some(Ok(index)) => {
                let uids = index.keys().map(|key| key.uid).collect();
                Expunged { uids, is_unreadable: false }
            }
            Some(Err(error)) => {
                let detail = format!("{EXPUNGE}: {error}; files without a record may be of it");
                let place = &self.subject.name;
                tell.left(&Finding::new(FindingKind::MetadataUnreadable, place, detail));
                Expunged { uids: BTreeSet::new(), is_unreadable: true }
            }
        }
    }

    /// The highest UID that was given out, as far as anything tells.
    fn last_uid(&self, remains: &Remains, expunged: &Expunged) -> Uid {
        let highest = remains.highest_uid().max(expunged.uids.last().copied().unwrap_or_default());
        match &remains.header {
            Some((header, Trust::Whole)) => header.last_uid.max(highest),
            _ => highest,
        }
    }

    /// A UID that a file has is one that was given out, whether or not its message was taken.
    fn highest_name(&self, last_uid: Uid, records: &[Record]) -> Uid {
        let named = self.files.keys().next_back().copied().unwrap_or_default();
        last_uid.max(sums::highest(records).0).max(named)
    }

    fn header(&self, traces: &[Trace], tell: &mut Tell<'_>) -> (MailboxHeader, Option<Vec<u8>>) {
        let mut used = UserFlags::default();
        for trace in traces.iter().filter(|trace| trace.trust == Trust::Whole) {
            trace.record.user_flags.iter().for_each(|flag| used.insert(flag));
        }
        let sources = Sources {
            entry: &self.subject.frozen.entry,
            form: self.around.form,
            quota_roots: &self.around.quota_roots,
            used,
        };
        header(self.subject.header(), &sources, tell)
    }

    /// Records whose cache is not what they say; servers that cannot do without it are told of.
    fn bad_cache(
        &self,
        traces: &[Trace],
        remains: &Remains,
        version: u32,
        tell: &mut Tell<'_>,
    ) -> BTreeSet<Uid> {
        let records = traces.iter().filter(|trace| trace.trust == Trust::Whole);
        let header = remains.header.as_ref().map(|(header, _)| header);
        let records = records.map(|trace| trace.record.clone());
        let (bad, total) = damaged_cache(self.subject, records, header, self.options.pace);
        let Some((_, why)) = bad.first() else { return BTreeSet::new() };
        if version < FIRST_WITHOUT_CACHE {
            let detail = format!(
                "{} of {total} records: {why}; let Cyrus' own reconstruct make them",
                bad.len()
            );
            tell.left(&Finding::new(FindingKind::CacheDamaged, &self.subject.name, detail));
            return BTreeSet::new();
        }
        bad.into_iter().map(|(uid, _)| uid).collect()
    }

    /// The header of the index as far as it is believed; `None` if there is none.
    fn believed_header(
        &self,
        remains: &Remains,
        traces: &[Trace],
        last_uid: Uid,
    ) -> Option<IndexHeader> {
        let (header, trust) = remains.header.as_ref()?;
        let mut header = header.clone();
        if *trust == Trust::Doubtful {
            let highest = (last_uid, highest_modseq(traces));
            let entry = &self.subject.frozen.entry;
            sums::as_far_as_plausible(&mut header, entry, highest, self.options.now);
        }
        Some(header)
    }

    /// The bytes of the new cyrus.index.
    fn index(
        &self,
        remains: &Remains,
        header: (Option<IndexHeader>, u32, Uid),
        records: &[Record],
        names: (&MailboxHeader, Option<&[u8]>),
        tell: &mut Tell<'_>,
    ) -> Option<Vec<u8>> {
        let subject = self.subject;
        let (believed, version, last_uid) = header;
        let is_fresh = believed.is_none();
        let is_whole = matches!(remains.header, Some((_, Trust::Whole)));
        let fresh = Fresh {
            version,
            entry: &subject.frozen.entry,
            generation: self.generation().unwrap_or_default(),
            now: self.options.now,
        };
        let old = subject.files.get(INDEX).and_then(|bytes| Index::parse(bytes).ok());
        let before = old.as_ref().filter(|_| !remains.has_lost);
        let notes = Notes { bytes: subject.annotations(), owner: self.around.owner, before };
        let header = believed.map_or_else(|| fresh.header(records, last_uid), Ok);
        let built = header.and_then(|mut header| {
            header.last_uid = header.last_uid.max(last_uid);
            if !is_whole {
                header.quota_annot_used = sums::bytes_of_notes(notes.bytes, notes.owner);
            }
            // An index that was brought up from an old version has no sum of its header, and needs none.
            let has_sum = is_fresh || header.header_file_crc != 0;
            if let Some(file) = names.1.or(subject.header().filter(|_| has_sum)) {
                name_header(&mut header, file);
            }
            sums::index(header, records, names.0, &notes)
        });
        match built {
            Ok((header, bytes)) => {
                tell_header(remains, &header, tell);
                Some(bytes)
            }
            Err(error) => {
                tell.left(&Finding::new(FindingKind::IndexUnreadable, &subject.name, error));
                None
            }
        }
    }

    /// The first word of cyrus.cache.
    fn generation(&self) -> Option<u32> {
        let file = self.subject.cache(false).ok()??;
        let mut head = Vec::new();
        let read: io::Result<usize> = file.take(4).read_to_end(&mut head);
        read.ok().and_then(|_| cache::generation(&head).ok())
    }

    /// cyrus.expunge without what cyrus.index has as well, if it has some of that.
    fn without_overlaps(&self, records: &[Record], tell: &mut Tell<'_>) -> Option<Vec<u8>> {
        let expunged = expunge::parse(self.subject.files.get(EXPUNGE)?).ok()?;
        let live: BTreeSet<Uid> = records.iter().map(|record| record.uid).collect();
        let (twice, kept): (Vec<Record>, Vec<Record>) =
            expunged.records().partition(|record| live.contains(&record.uid));
        for record in &twice {
            let field = Field::new(EXPUNGE, Value::text("expunged"), Value::Nothing);
            tell.change(Some(record.uid), Why::Overlap, vec![field]);
        }
        if twice.is_empty() {
            return None;
        }
        cyrus_format::index::write_index(expunged.header(), &kept).ok()
    }
}

/// Says which cyrus.header an index is written with.
fn name_header(header: &mut IndexHeader, file: &[u8]) {
    if header.minor_version >= FIRST_WITH_HEADER_CRC {
        header.header_file_crc = file_crc(file);
    }
}

fn tell_header(remains: &Remains, new: &IndexHeader, tell: &mut Tell<'_>) {
    let (why, fields) = match &remains.header {
        Some((old, Trust::Whole)) => (Why::Counters, change::of_headers(old, new)),
        Some((old, Trust::Doubtful)) => {
            let mut fields = change::of_headers(old, new);
            fields.push(Field::new("crc", Value::text("wrong"), Value::text("right")));
            (Why::IndexHeaderBelieved, fields)
        }
        None => (Why::IndexRemade, change::of_headers(&IndexHeader::default(), new)),
    };
    if !fields.is_empty() {
        tell.change(None, why, fields);
    }
}

/// What Cyrus 3.2 to 3.6 write, for an account of which nothing else is left.
fn options_version(work: &Work<'_>) -> u32 {
    const NEW: u32 = 17;
    const OLD: u32 = 13;
    match work.around.form {
        HeaderForm::Lines => OLD,
        HeaderForm::Dlist | HeaderForm::DlistWithJmapId => NEW,
    }
}

/// The user flags that have names.
fn named(header: &MailboxHeader) -> UserFlags {
    let mut named = UserFlags::default();
    for (number, name) in header.flag_names().enumerate() {
        if name.is_some_and(|name| !name.is_empty()) {
            named.insert(number);
        }
    }
    named
}

/// The highest modseq of those records whose sum vouches for it.
fn highest_modseq(traces: &[Trace]) -> Modseq {
    let whole = traces.iter().filter(|trace| trace.trust == Trust::Whole);
    whole.map(|trace| trace.record.modseq).max().unwrap_or_default()
}

/// One more than any that was given out here.
fn next_modseq(header: Option<&IndexHeader>, traces: &[Trace]) -> Modseq {
    let stored = header.map(|header| header.highestmodseq).unwrap_or_default();
    Modseq(stored.max(highest_modseq(traces)).0.saturating_add(1))
}

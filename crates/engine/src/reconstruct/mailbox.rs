//! One mailbox: what is left of it, and what can be made of that.

use std::collections::{BTreeMap, BTreeSet};

use cyrus_format::expunge;
use cyrus_format::header::{HeaderForm, MailboxHeader};
use cyrus_format::index::{Index, IndexHeader};
use model::{Finding, FindingKind, MboxName, Modseq, Record, Uid, UserFlags, Userid};
use spool::{Fingerprint, MessageStat, Rewriting, Server};

use super::change::{Field, Value, Why};
use super::files;
use super::header::{Sources, header};
use super::making::{Made, make};
use super::orphans::{self, Rules};
use super::read::{self, Read};
use super::records::{FIRST_WITH_GUIDS, FIRST_WITHOUT_CACHE, Judge, in_order, to_read};
use super::remains::{Remains, Trace, Trust};
use super::sums;
use super::tell::Tell;
use super::{Options, Planned};
use crate::audit::{Subject, damaged_cache};
use crate::ports::Monitor;

pub(super) const INDEX: &str = "cyrus.index";
const HEADER: &str = "cyrus.header";
const EXPUNGE: &str = "cyrus.expunge";
const ANNOTATIONS: &str = "cyrus.annotations";

/// The first version whose expunged messages are in the index itself.
const FIRST_WITHOUT_EXPUNGE: u32 = 12;

/// The modseq of what any master knows better.
const OLDEST: Modseq = Modseq(1);

/// What is known of the account beside the mailbox.
pub(super) struct Around<'a> {
    pub server: &'a Server,
    pub owner: Option<&'a Userid>,
    /// The version of its other indexes.
    pub likely: Option<u32>,
    /// The version that the server writes, where no index tells.
    pub usual: u32,
    /// The form of its other headers.
    pub form: HeaderForm,
    /// The highest modseq that its mailboxes and mailboxes.db have.
    pub highest_modseq: Modseq,
}

impl Around<'_> {
    /// The quota root that a mailbox counts for; none, too, if quotas cannot be read.
    fn quota_root_of(&self, name: &MboxName) -> Option<MboxName> {
        self.server.quota_root_of(name).ok().flatten()
    }
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
    let is_missing = |finding: &Finding| finding.kind == FindingKind::MailboxMissing;
    if subject.findings.iter().any(is_missing) || !is_readable(subject, tell) {
        return planned;
    }
    let files = match subject.frozen.stat_files() {
        Ok(files) => files,
        Err(error) => {
            let detail = format!("its directory cannot be listed: {error}");
            tell.wrong(FindingKind::MessageUnreadable, detail);
            return planned;
        }
    };
    tell.hold();
    let index = subject.files.get(INDEX).map(Vec::as_slice);
    let remains = match Remains::of(index, around.likely, tell) {
        Ok(remains) => remains,
        Err(error) => {
            tell.forget();
            tell.wrong(FindingKind::IndexTooNew, error);
            return planned;
        }
    };
    let files = files::choose(files, &remains.traces);
    let before = tell.changes;
    let mut work = Work { subject, around, options, files, monitor, planned: &mut planned };
    let rewriting = work.run(remains, tell);
    tell.forget();
    if tell.changes > before {
        planned.rewritings.extend(rewriting);
    }
    planned
}

/// What is said of files that are made anew is said by what they become.
fn is_made_anew(kind: FindingKind) -> bool {
    [FindingKind::IndexUnreadable, FindingKind::HeaderUnreadable].contains(&kind)
}

/// Whether each file was read, or is not there. One that only cannot be read just now may be whole.
fn is_readable(subject: &Subject, tell: &mut Tell<'_>) -> bool {
    let index = subject.files.get(INDEX).and_then(|bytes| Index::parse(bytes).ok());
    let is_old = index.is_none_or(|index| index.minor_version() < FIRST_WITHOUT_EXPUNGE);
    let mut is_readable = true;
    for (file, kind) in [
        (INDEX, FindingKind::IndexUnreadable),
        (HEADER, FindingKind::HeaderUnreadable),
        (EXPUNGE, FindingKind::MetadataUnreadable),
        (ANNOTATIONS, FindingKind::MetadataUnreadable),
    ] {
        let is_read = subject.files.contains_key(file) || file == EXPUNGE && !is_old;
        if is_read || !subject.frozen.has_metadata(file) {
            continue;
        }
        is_readable = false;
        let said = subject.findings.iter().find(|finding| finding.kind == kind);
        // Of others than these two, it was told already.
        if is_made_anew(kind) || said.is_none() {
            let why = said.map_or("it cannot be read", |finding| &finding.detail);
            let detail = format!("{file} is there, and is not made anew before it was read: {why}");
            tell.wrong(kind, detail);
        }
    }
    is_readable
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

/// What is there, all of it read.
struct Found {
    remains: Remains,
    version: u32,
    traces: Vec<Trace>,
    orphans: Vec<MessageStat>,
    last_uid: Uid,
    read: Read,
}

impl Work<'_> {
    fn run(&mut self, mut remains: Remains, tell: &mut Tell<'_>) -> Option<Rewriting> {
        let expunged = self.expunged(tell);
        let version = remains.version.or(self.around.likely).unwrap_or(self.around.usual);
        let count = remains.traces.len();
        let traces = in_order(&mut remains, &self.files, tell);
        let last_uid = last_uid(&remains, &traces, &expunged);
        let known: BTreeSet<Uid> = traces.iter().map(|trace| trace.record.uid).collect();
        let has_record = |uid| known.contains(&uid) || expunged.uids.contains(&uid);
        let orphans: Vec<MessageStat> = match expunged.is_unreadable {
            true => Vec::new(),
            false => orphans::find(&self.files, has_record, tell),
        };
        let takes_guids = self.options.guids && version >= FIRST_WITH_GUIDS;
        let wanted = to_read(&traces, &orphans, &self.files, takes_guids);
        self.monitor.expect(wanted.len() as u64);
        let read = read::all(&self.subject.frozen, &wanted, self.options, self.monitor);
        self.planned.messages += (traces.len() + orphans.len()) as u64;
        self.planned.read += wanted.iter().map(|stat| stat.size).sum::<u64>();
        let found = Found { remains, version, traces, orphans, last_uid, read };
        if !self.can_tell(&found, &expunged, tell) {
            return None;
        }
        tell.release();
        self.decide(found, count, tell)
    }

    /// Decides about each record; `count` is how many there were.
    fn decide(&self, found: Found, count: usize, tell: &mut Tell<'_>) -> Option<Rewriting> {
        let Found { remains, version, traces, orphans, last_uid, read } = found;
        let subject = self.subject;
        let (names, header_bytes) = self.header(&remains, &traces, tell);
        let bad_cache = self.bad_cache(&traces, &remains, version, tell);
        let believed = self.believed_header(&remains, &traces, last_uid);
        let is_replica = self.options.is_replica;
        let next = self.next_modseq(believed.as_ref(), &traces);
        let judge = Judge {
            options: self.options,
            files: &self.files,
            read: &read,
            bad_cache: &bad_cache,
            named: named(&names),
            modseq: if is_replica { OLDEST } else { next },
            has_archive: subject.frozen.has_archive(),
            version,
        };
        let mut records: Vec<Record> =
            traces.into_iter().filter_map(|trace| judge.judge(trace, tell)).collect();
        let is_gone = records.len() < count || believed.is_none();
        let is_known = believed.is_some() || !records.is_empty();
        let rules = Rules {
            last_uid: is_known.then_some(last_uid),
            keeps_uids: remains.has_lost,
            tail: &remains.tail,
        };
        let taken = orphans::take(&orphans, &rules, &judge, tell);
        records.extend(taken.records);
        records.sort_by_key(|record| record.uid);
        self.tell_caches(version, &records, tell);
        let made = Made {
            remains: &remains,
            believed,
            version,
            last_uid: last_uid.max(sums::highest(&records).0),
            gone: (is_gone && !is_replica).then_some(next),
            records: &records,
            names: &names,
            header_file: header_bytes.as_deref(),
        };
        let index = make(subject, self.around.owner, self.options.now, made, tell)?;
        Some(Rewriting {
            mailbox: subject.name.clone(),
            planned_from: subject.files.get(INDEX).map(|bytes| Fingerprint::of(bytes)),
            renumbered: taken.renumbered,
            expunge: self.without_overlaps(&records, tell),
            header: header_bytes,
            index: Some(index),
        })
    }

    /// Whether everything could be read that decides about what is lost. Otherwise the next run, which would find an
    /// index that is whole, would take for a stray what is a message that has lost its record.
    fn can_tell(&self, found: &Found, expunged: &Expunged, tell: &mut Tell<'_>) -> bool {
        let Found { remains, traces, orphans, read, .. } = found;
        let doubtful = traces.iter().filter(|trace| trace.trust == Trust::Doubtful);
        let doubtful = doubtful.map(|trace| trace.record.uid);
        let strays = orphans.iter().map(|stat| stat.uid).filter(|_| remains.has_lost);
        let mut can_tell = !(expunged.is_unreadable && remains.has_lost);
        for uid in doubtful.chain(strays) {
            if let Some(Err(why)) = read.get(&uid) {
                tell.wrong_at(uid, FindingKind::MessageUnreadable, why);
                can_tell = false;
            }
        }
        if self.has_no_archive(traces) && !self.options.accept_losses {
            let detail =
                "none of its archived messages is there: is the archive partition mounted?";
            tell.wrong(FindingKind::MessageMissing, detail);
            can_tell = false;
        }
        can_tell
    }

    /// Whether messages should be on the archive partition, and none is.
    fn has_no_archive(&self, traces: &[Trace]) -> bool {
        let is_lost = |trace: &Trace| {
            let record = &trace.record;
            let is_archived = record.is_archived() && !record.is_unlinked();
            trace.trust == Trust::Whole && is_archived && !self.files.contains_key(&record.uid)
        };
        self.subject.frozen.has_archive()
            && !self.files.values().any(|stat| stat.is_archived)
            && traces.iter().any(is_lost)
    }

    /// Says if records have no cache where servers cannot do without.
    fn tell_caches(&self, version: u32, records: &[Record], tell: &mut Tell<'_>) {
        let is_without = |record: &&Record| record.cache_offset == 0 && !record.is_unlinked();
        let count = records.iter().filter(is_without).count();
        if version < FIRST_WITHOUT_CACHE && count > 0 {
            let detail = format!("{count} records have none: let Cyrus' own reconstruct make them");
            tell.wrong(FindingKind::CacheDamaged, detail);
        }
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
                tell.wrong(FindingKind::MetadataUnreadable, detail);
                Expunged { uids: BTreeSet::new(), is_unreadable: true }
            }
        }
    }

    /// One more than any modseq that was given out here. Where nothing tells, the account's other mailboxes do:
    /// they count together.
    fn next_modseq(&self, header: Option<&IndexHeader>, traces: &[Trace]) -> Modseq {
        let stored = header.map_or(self.around.highest_modseq, |header| header.highestmodseq);
        Modseq(stored.max(highest_modseq(traces)).0.saturating_add(1))
    }

    fn header(
        &self,
        remains: &Remains,
        traces: &[Trace],
        tell: &mut Tell<'_>,
    ) -> (MailboxHeader, Option<Vec<u8>>) {
        let mut used = UserFlags::default();
        for trace in traces.iter().filter(|trace| trace.trust == Trust::Whole) {
            trace.record.user_flags.iter().for_each(|flag| used.insert(flag));
        }
        let sum = remains.header.as_ref().filter(|(_, trust)| *trust == Trust::Whole);
        let sources = Sources {
            entry: &self.subject.frozen.entry,
            form: self.around.form,
            quota_root: &|name| self.around.quota_root_of(name),
            used,
            sum: sum.map(|(header, _)| header.header_file_crc).filter(|sum| *sum != 0),
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
            tell.wrong(FindingKind::CacheDamaged, detail);
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

/// The highest UID that was given out, as far as anything tells.
fn last_uid(remains: &Remains, traces: &[Trace], expunged: &Expunged) -> Uid {
    let whole = traces.iter().filter(|trace| trace.trust == Trust::Whole);
    let highest = whole.map(|trace| trace.record.uid).max().unwrap_or_default();
    let highest = highest.max(expunged.uids.last().copied().unwrap_or_default());
    match &remains.header {
        Some((header, Trust::Whole)) => header.last_uid.max(highest),
        Some((header, Trust::Doubtful)) => sums::plausible_last_uid(header, highest),
        None => highest,
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

/// The highest modseq of those records that are believed.
fn highest_modseq(traces: &[Trace]) -> Modseq {
    let whole = traces.iter().filter(|trace| trace.trust == Trust::Whole);
    whole.map(|trace| trace.record.modseq).max().unwrap_or_default()
}

//! What a watcher knows, as bytes.
//!
//! A magic, a version, and then everything in the order of this module, integers in little-endian
//! form and bytes behind their length; at the end the CRC-32 of all before. It is our own file, but
//! whoever reads one may have been given another: nothing is believed before it is there.

mod bytes;

use bytes::{Source, Target};

use crate::alarms;
use crate::book::{Book, BookLimits, Template};
use crate::incidents::{Incident, Speaker, Summary};
use crate::mask::WORDS_MAX;
use crate::noise::{Cause, Noise, NoiseId};
use crate::time::Time;
use crate::watcher::{Known, Set, Watcher};

const MAGIC: &[u8; 8] = b"CYLWATCH";
const VERSION: u16 = 1;

/// Bytes that are not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// They are of something else.
    #[error("it is not a state of cylinder watch")]
    Magic,
    /// A newer release wrote them.
    #[error("it is of version {0}, and the newest that is known is {VERSION}")]
    TooNew(u16),
    /// They were changed, or cut.
    #[error("it is damaged at byte {0}")]
    Damaged(usize),
}

impl Watcher {
    /// Everything that it knows.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Target(MAGIC.to_vec());
        out.u16(VERSION);
        out.i64(self.now.0);
        out.u64(self.lines);
        out.u8(u8::from(self.since.is_some()));
        out.i64(self.since.unwrap_or_default().0);
        out.count(self.known.len());
        for (template, known) in self.book.templates().iter().zip(&self.known) {
            write_template(&mut out, template);
            write_known(&mut out, known);
        }
        for set in [&self.subjects, &self.failures] {
            let mut hashes: Vec<u64> = set.iter().copied().collect();
            hashes.sort_unstable();
            out.count(hashes.len());
            hashes.into_iter().for_each(|hash| out.u64(hash));
        }
        out.count(self.incidents.open.len());
        for Incident { noise, since, last, is_told, by: _ } in &self.incidents.open {
            write_noise(&mut out, noise);
            out.i64(since.0);
            out.i64(last.0);
            out.u8(u8::from(*is_told));
        }
        out.count(self.incidents.digest.len());
        for Summary { noise, is_told } in &self.incidents.digest {
            write_noise(&mut out, noise);
            out.u8(u8::from(*is_told));
        }
        out.count(self.incidents.accepted.len());
        for (id, until) in &self.incidents.accepted {
            out.u32(id.0);
            out.i64(until.0);
        }
        out.count(self.incidents.told.len());
        self.incidents.told.iter().for_each(|told| out.i64(told.0));
        out.count(self.ripe.len());
        self.ripe.iter().for_each(|noise| write_noise(&mut out, noise));
        let sum = crc32fast::hash(&out.0);
        out.u32(sum);
        out.0
    }

    /// Reads what [`Watcher::encode`] wrote.
    ///
    /// # Errors
    ///
    /// If it did not, or if a newer release did.
    pub fn decode(bytes: &[u8], limits: BookLimits) -> Result<Self, StateError> {
        let mut source = Source::new(bytes);
        if source.take(MAGIC.len()).ok() != Some(&MAGIC[..]) {
            return Err(StateError::Magic);
        }
        match source.u16()? {
            VERSION => {}
            version => return Err(StateError::TooNew(version)),
        }
        let (body, sum) = bytes.split_last_chunk().ok_or(StateError::Damaged(0))?;
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return Err(StateError::Damaged(body.len()));
        }
        read_body(&mut source, limits)
    }
}

fn read_body(source: &mut Source<'_>, limits: BookLimits) -> Result<Watcher, StateError> {
    let now = Time(source.i64()?);
    let lines = source.u64()?;
    let (has_begun, since) = (source.u8()? != 0, Time(source.i64()?));
    let (mut templates, mut known) = (Vec::new(), Vec::new());
    for _ in 0..source.count()? {
        templates.push(read_template(source)?);
        known.push(read_known(source)?);
    }
    if templates.is_empty() {
        return Err(source.damaged());
    }
    let mut watcher = Watcher::with(Book::with(limits, templates), known);
    watcher.now = now;
    watcher.lines = lines;
    watcher.since = has_begun.then_some(since);
    watcher.subjects = read_set(source)?;
    watcher.failures = read_set(source)?;
    for _ in 0..source.count()? {
        let noise = read_noise(source)?;
        let (since, last) = (Time(source.i64()?), Time(source.i64()?));
        let (by, is_told) = (Speaker::of(&noise), source.u8()? != 0);
        watcher.incidents.open.push(Incident { noise, since, last, by, is_told });
    }
    for _ in 0..source.count()? {
        let noise = read_noise(source)?;
        watcher.incidents.digest.push_back(Summary { noise, is_told: source.u8()? != 0 });
    }
    for _ in 0..source.count()? {
        let id = NoiseId(source.u32()?);
        watcher.incidents.accepted.insert(id, Time(source.i64()?));
    }
    for _ in 0..source.count()? {
        watcher.incidents.told.push_back(Time(source.i64()?));
    }
    for _ in 0..source.count()? {
        watcher.ripe.push(read_noise(source)?);
    }
    source.end()?;
    Ok(watcher)
}

fn write_template(out: &mut Target, template: &Template) {
    let Template { id, process, pattern, keys, leaf } = template;
    out.u32(*id);
    out.bytes(process);
    out.bytes(pattern);
    out.count(keys.len());
    keys.iter().for_each(|key| out.u64(*key));
    out.u64(*leaf);
}

fn read_template(source: &mut Source<'_>) -> Result<Template, StateError> {
    let id = source.u32()?;
    let process = source.bytes()?.to_vec();
    let pattern = source.bytes()?.to_vec();
    let count = source.count()?;
    if count > WORDS_MAX {
        return Err(source.damaged());
    }
    let keys = (0..count).map(|_| source.u64()).collect::<Result<_, _>>()?;
    Ok(Template { id, process, pattern, keys, leaf: source.u64()? })
}

fn write_known(out: &mut Target, known: &Known) {
    let habit = &known.habit;
    out.u64(habit.count);
    out.i64(habit.first.0);
    out.i64(habit.last.0);
    out.u16(habit.days);
    out.i64(habit.gap);
    out.u32(habit.visits);
    habit.usual.iter().for_each(|usual| out.f32(*usual));
    out.f32(habit.peak_hour);
    out.f32(habit.peak_minute);
    for (at, count) in [habit.hour, habit.minute] {
        out.i64(at);
        out.u32(count);
    }
    for flag in [known.is_failure, known.is_everyday, known.is_missed] {
        out.u8(u8::from(flag));
    }
    out.u8(known.subjects);
}

fn read_known(source: &mut Source<'_>) -> Result<Known, StateError> {
    let mut known = Known::new(Time(0), false);
    let habit = &mut known.habit;
    habit.count = source.u64()?;
    habit.first = Time(source.i64()?);
    habit.last = Time(source.i64()?);
    habit.days = source.u16()?;
    habit.gap = source.i64()?;
    habit.visits = source.u32()?;
    for usual in &mut habit.usual {
        *usual = source.f32()?;
    }
    habit.peak_hour = source.f32()?;
    habit.peak_minute = source.f32()?;
    habit.hour = (source.i64()?, source.u32()?);
    habit.minute = (source.i64()?, source.u32()?);
    habit.set_limits();
    known.is_failure = source.u8()? != 0;
    known.is_everyday = source.u8()? != 0;
    known.is_missed = source.u8()? != 0;
    known.subjects = source.u8()?;
    Ok(known)
}

fn read_set(source: &mut Source<'_>) -> Result<Set, StateError> {
    let count = source.count()?;
    (0..count).map(|_| source.u64()).collect()
}

fn write_noise(out: &mut Target, noise: &Noise) {
    out.u32(noise.id.0);
    write_cause(out, &noise.cause);
    out.i64(noise.time.0);
    out.u8(u8::from(noise.pid.is_some()));
    out.u32(noise.pid.unwrap_or_default());
    for text in [&noise.host, &noise.process, &noise.session, &noise.message, &noise.pattern] {
        out.bytes(text);
    }
    out.count(noise.context.len());
    noise.context.iter().for_each(|line| out.bytes(line));
    out.u64(noise.count);
    out.u64(noise.related);
}

fn read_noise(source: &mut Source<'_>) -> Result<Noise, StateError> {
    let id = NoiseId(source.u32()?);
    let cause = read_cause(source)?;
    let time = Time(source.i64()?);
    let has_pid = source.u8()? != 0;
    let pid = source.u32()?;
    let mut text = || source.bytes().map(<[u8]>::to_vec);
    let (host, process, session, message, pattern) = (text()?, text()?, text()?, text()?, text()?);
    let context = (0..source.count()?).map(|_| source.bytes().map(<[u8]>::to_vec));
    let context = context.collect::<Result<_, _>>()?;
    Ok(Noise {
        id,
        cause,
        time,
        host,
        process,
        pid: has_pid.then_some(pid),
        session,
        message,
        context,
        pattern,
        count: source.u64()?,
        related: source.u64()?,
    })
}

/// A name, which says what it is, and three numbers, which most of them do not need.
fn write_cause(out: &mut Target, cause: &Cause) {
    out.bytes(cause.name().as_bytes());
    let (numbers, last) = match *cause {
        Cause::Rate { count, within, usual } => ([count, within, usual], 0),
        Cause::Silence { last } => ([0; 3], last.0),
        _ => ([0; 3], 0),
    };
    numbers.into_iter().for_each(|number| out.u32(number));
    out.i64(last);
}

fn read_cause(source: &mut Source<'_>) -> Result<Cause, StateError> {
    let name = source.bytes()?;
    let (count, within, usual) = (source.u32()?, source.u32()?, source.u32()?);
    let last = Time(source.i64()?);
    let others = [
        Cause::UnknownFailure,
        Cause::NeverSeen,
        Cause::Rate { count, within, usual },
        Cause::FirstFailure,
        Cause::Silence { last },
        Cause::TooManyKinds,
        Cause::TooManyNoises,
    ];
    let mut causes = alarms::ALARMS.iter().map(Cause::Alarm).chain(others);
    // An alarm that a later release no longer has is still trouble.
    Ok(causes.find(|cause| cause.name().as_bytes() == name).unwrap_or(Cause::UnknownFailure))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::line::LineReader;
    use crate::watcher::Mode;

    fn watcher(messages: &[String]) -> Watcher {
        let mut watcher = Watcher::default();
        let mut reader = LineReader::new(Time(86_400));
        for (n, message) in messages.iter().enumerate() {
            let line =
                format!("1970-01-01T0{}:00:{:02}Z h cyrus/imap[7]: {message}", n / 60 % 9, n % 60);
            watcher.take(&reader.read(line.as_bytes()), Mode::Watch);
        }
        watcher.accept(NoiseId(7), Time(10_000_000));
        watcher
    }

    fn sample() -> Vec<String> {
        [
            "login: a [1.2.3.4] glad plain",
            "IOERROR: opening user.glad",
            "one two three",
            "x DBERROR",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    #[test]
    fn what_was_kept_goes_on_as_if_nothing_had_been() {
        let mut first = watcher(&sample());
        let kept = first.encode();
        let mut second = Watcher::decode(&kept, BookLimits::default()).expect("a state");
        assert_eq!(second.encode(), kept);
        let told = first.noises(Time(100));
        assert!(!told.is_empty());
        assert_eq!(told, second.noises(Time(100)));
        assert!(second.noises(Time(101)).is_empty());
        let mut third = Watcher::decode(&second.encode(), BookLimits::default()).expect("a state");
        assert!(third.noises(Time(102)).is_empty(), "told noises are not told again");
    }

    #[test]
    fn what_nobody_has_asked_for_yet_is_kept_though_it_is_over() {
        let mut first = Watcher::default();
        let mut reader = LineReader::new(Time(86_400));
        // Without a stamp, and so long ago.
        for line in [&b"DBERROR"[..], b"1970-01-01T09:00:00Z h cyrus/imap[7]: hello"] {
            first.take(&reader.read(line), Mode::Watch);
        }
        assert!(first.open().is_empty());
        let mut second = Watcher::decode(&first.encode(), BookLimits::default()).expect("a state");
        assert_eq!(second.noises(Time(0)).len(), 1);
    }

    #[test]
    fn what_is_cut_or_changed_is_refused() {
        let kept = watcher(&sample()).encode();
        let decode = |bytes: &[u8]| Watcher::decode(bytes, BookLimits::default()).map(|_| ());
        for length in 0..kept.len() {
            assert!(decode(&kept[..length]).is_err(), "{length}");
        }
        for at in (0..kept.len()).step_by(7) {
            let mut changed = kept.clone();
            changed[at] ^= 0x10;
            assert!(decode(&changed).is_err(), "{at}");
        }
        let mut newer = kept.clone();
        newer[8] = 9;
        assert_eq!(decode(&newer), Err(StateError::TooNew(9)));
    }

    proptest! {
        #[test]
        fn bytes_with_a_good_checksum_are_not_believed_either(
            body in proptest::collection::vec(any::<u8>(), 0..400)
        ) {
            let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &body].concat();
            let sum = crc32fast::hash(&bytes);
            bytes.extend_from_slice(&sum.to_le_bytes());
            if let Ok(mut watcher) = Watcher::decode(&bytes, BookLimits::default()) {
                watcher.noises(Time(0));
            }
        }
    }
}

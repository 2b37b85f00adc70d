//! `cylinder find`: messages in all snapshots of an account in a vault.

use std::io::{self, BufWriter, Write};

use engine::archive::ArchiveError;
use engine::catalog::Envelope;
use engine::find::{Found, Place, Query, State};
use engine::folder::{is_named, relative_name};
use engine::words::decode;
use jiff::tz::TimeZone;
use model::{Guid, MboxName};
use serde_json::{Value, json};
use vault::{Account, Entry, History};

use crate::args::FindArgs;
use crate::error::{CliError, Exit};
use crate::render::{count, plain};
use crate::vaults;
use crate::vaults::find::{Scope, Searched, catalogue, search};
use crate::when::{At, parse_since, rfc3339};

/// Runs the command. What is damaged is named, and the rest is searched.
pub fn run(args: &FindArgs) -> Result<Exit, CliError> {
    let opened = vaults::open(&args.at.vault)?;
    let (account, history) = vaults::account(&opened, &args.at.account)?;
    let userid = args.at.account.as_bytes();
    let wanted = |name: &[u8]| match &args.mailbox {
        Some(pick) => is_named(name, userid, pick.as_bytes()),
        None => true,
    };
    let (snapshots, gone_from) = window(args, &history)?;
    let scope = Scope { snapshots, gone_from, wanted: &wanted };
    let query = Query {
        from: args.from.clone(),
        to: args.to.clone(),
        subject: args.subject.clone(),
        message_id: args.message_id.clone(),
    };
    let mut searched = search(&account, &history, &scope, query);
    let mut exit = Exit::Done;
    for error in std::mem::take(&mut searched.trouble) {
        exit = explain(error).report(args.json);
    }
    let Some(found) = &searched.found else {
        let seq = scope.gone_from.as_ref().map_or(0, |entry| entry.name.seq);
        return Err(CliError::plain(format!("snapshot {seq} cannot be read"))
            .hint("name another one as T2; cylinder history lists them"));
    };
    let listing = Listing {
        args,
        account: &account,
        snapshots: &scope.snapshots,
        searched: &searched,
        found,
    };
    let printed = listing.print(&mut BufWriter::new(io::stdout().lock()));
    match printed.map_err(|error| CliError::failed("cannot print what was found", error))? {
        None => Ok(exit),
        Some(error) => Ok(explain(error).report(args.json)),
    }
}

fn explain(error: ArchiveError) -> CliError {
    CliError::failed("some of the history cannot be searched", error)
        .hint("the object is damaged; cylinder verify says what that means")
}

/// The snapshots to look at, and the one that messages should be gone from.
fn window(args: &FindArgs, history: &History) -> Result<(Vec<Entry>, Option<Entry>), CliError> {
    let userid = &args.at.account;
    let newest = vaults::choose(history, userid, None)?;
    let mut snapshots: Vec<Entry> = history.snapshots().into_iter().cloned().collect();
    if let Some(since) = &args.since {
        let since =
            parse_since(since, &TimeZone::system()).ok_or_else(|| vaults::no_moment(since))?;
        snapshots.retain(|entry| match since {
            At::Seq(seq) => u64::from(entry.name.seq) >= seq,
            At::Time(time) => entry.name.taken_at >= time,
        });
        if snapshots.is_empty() {
            let (seq, at) = (newest.name.seq, rfc3339(newest.name.taken_at));
            return Err(CliError::plain(format!("no snapshot of {userid} is that new"))
                .hint(format!("the newest is {seq} of {at}")));
        }
    }
    let Some([first, last]) = args.vanished_between.as_deref() else {
        return Ok((snapshots, None));
    };
    let [first, last] = [first, last].map(|at| vaults::choose(history, userid, Some(at)));
    let (first, last) = (first?, last?);
    if last.name.seq < first.name.seq {
        return Err(CliError::usage("T1 of --vanished-between is later than T2")
            .hint("name the earlier snapshot first"));
    }
    // Of several with one number, from two machines, only the one that was chosen is the last.
    snapshots.retain(|entry| {
        (first.name.seq..last.name.seq).contains(&entry.name.seq) || entry.name == last.name
    });
    Ok((snapshots, Some(last)))
}

/// What was found, on its way to standard output.
struct Listing<'a> {
    args: &'a FindArgs,
    account: &'a Account,
    snapshots: &'a [Entry],
    searched: &'a Searched,
    found: &'a Found,
}

impl Listing<'_> {
    /// Prints all messages, in the order in which they were stored; gives back what keeps it from
    /// telling what they are.
    fn print(&self, out: &mut impl Write) -> io::Result<Option<ArchiveError>> {
        let mut printed = vec![false; self.found.len()];
        let mut trouble = None;
        self.begin(out)?;
        let mut is_first = true;
        for source in &self.searched.sources {
            let listed = match catalogue(self.account, source) {
                Ok(listed) => listed,
                Err(error) => {
                    trouble = Some(error);
                    continue;
                }
            };
            for envelope in listed.envelopes() {
                let position = self.found.position(&envelope.guid);
                if let Some(at) = position.filter(|at| !printed[*at]) {
                    printed[at] = true;
                    self.message(out, &envelope, std::mem::replace(&mut is_first, false))?;
                }
            }
        }
        // Those that no catalogue lists.
        for (guid, _) in self.found.guids().zip(&printed).filter(|(_, printed)| !**printed) {
            let envelope = Envelope { guid: *guid, ..Envelope::default() };
            self.message(out, &envelope, std::mem::replace(&mut is_first, false))?;
        }
        self.end(out)?;
        out.flush()?;
        Ok(trouble)
    }

    fn begin(&self, out: &mut impl Write) -> io::Result<()> {
        if !self.args.json {
            return Ok(());
        }
        let account = json!(self.args.at.account);
        let snapshots = self.snapshots.len();
        write!(out, "{{\"account\":{account},\"snapshots\":{snapshots},\"messages\":[")
    }

    fn message(&self, out: &mut impl Write, envelope: &Envelope, is_first: bool) -> io::Result<()> {
        if self.args.json {
            let comma = if is_first { "" } else { "," };
            return write!(out, "{comma}\n{}", self.document(envelope));
        }
        writeln!(out, "{}  {}", envelope.guid, plain(&decode(&envelope.date)))?;
        for (name, value) in
            [("From", &envelope.from), ("To", &envelope.to), ("Subject", &envelope.subject)]
        {
            if !value.is_empty() {
                writeln!(out, "  {name}: {}", plain(&decode(value)))?;
            }
        }
        for place in self.found.places(&envelope.guid) {
            writeln!(out, "  {}", plain(&self.place_text(&place)))?;
        }
        match self.is_in_newest(&envelope.guid) {
            Some(true) => writeln!(out, "  still there"),
            Some(false) => writeln!(out, "  no longer there"),
            None => Ok(()),
        }
    }

    fn end(&self, out: &mut impl Write) -> io::Result<()> {
        let (vault, account) = (&self.args.at.vault, &self.args.at.account);
        if self.args.json {
            return writeln!(out, "\n]}}");
        }
        if self.found.is_empty() {
            let snapshots = count(self.snapshots.len() as u64, "snapshot");
            return writeln!(out, "no such message in {snapshots} of {}", plain(account));
        }
        let get = format!("cylinder show --vault {vault} {account} --guid GUID");
        writeln!(out, "to get one: {}", plain(&get))
    }

    /// Whether clients see it in the newest snapshot; `None` if nobody knows.
    fn is_in_newest(&self, guid: &Guid) -> Option<bool> {
        self.searched.newest.as_ref().map(|newest| newest.contains(guid))
    }

    fn place_text(&self, place: &Place<'_>) -> String {
        let snapshot = |number| {
            let (seq, at) = self.snapshot(number);
            format!("{seq} of {at}")
        };
        let time = match place.first == place.last {
            true => snapshot(place.first),
            false => format!("{} to {}", snapshot(place.first), snapshot(place.last)),
        };
        let state = match place.state {
            State::Visible => "",
            State::Expunged => ", expunged",
            State::Deleted => ", in a deleted mailbox",
        };
        format!("{} {}: {time}{state}", self.folder(place.mailbox), place.uid)
    }

    fn folder(&self, name: &MboxName) -> String {
        let userid = self.args.at.account.as_bytes();
        MboxName::new(relative_name(name.as_bytes(), userid)).to_string()
    }

    /// Number and time of a snapshot.
    fn snapshot(&self, number: u32) -> (u32, String) {
        let entry = self.snapshots.get(number as usize);
        entry.map_or_else(Default::default, |e| (e.name.seq, rfc3339(e.name.taken_at)))
    }

    fn document(&self, envelope: &Envelope) -> Value {
        let snapshot = |number| {
            let (seq, taken_at) = self.snapshot(number);
            json!({ "seq": seq, "taken_at": taken_at })
        };
        let places = self.found.places(&envelope.guid).map(|place| {
            json!({
                "mailbox": self.folder(place.mailbox),
                "uid": place.uid.0,
                "state": match place.state {
                    State::Visible => "visible",
                    State::Expunged => "expunged",
                    State::Deleted => "deleted",
                },
                "first": snapshot(place.first),
                "last": snapshot(place.last),
            })
        });
        json!({
            "guid": envelope.guid.to_string(),
            "date": decode(&envelope.date),
            "from": decode(&envelope.from),
            "to": decode(&envelope.to),
            "subject": decode(&envelope.subject),
            "message_id": decode(&envelope.message_id),
            "in_newest": self.is_in_newest(&envelope.guid),
            "places": places.collect::<Vec<_>>(),
        })
    }
}

//! `cylinder diff`: what differs between two snapshots of a vault.

use std::io::Write;

use engine::changes::{AccountChange, At, Change, Changes, Message, compare};
use engine::folder::relative_name;
use model::{Guid, MboxName};
use serde_json::{Value, json};
use vault::Entry;

use crate::args::DiffArgs;
use crate::error::{CliError, Exit};
use crate::render;
use crate::render::plain;
use crate::when::rfc3339;
use crate::{archive, vaults};

/// Runs the command.
pub fn run(args: &DiffArgs) -> Result<Exit, CliError> {
    let opened = vaults::open(&args.at.vault)?;
    let (account, history) = vaults::account(&opened, &args.at.account)?;
    let before = vaults::choose(&history, &args.at.account, Some(&args.before))?;
    let after = vaults::choose(&history, &args.at.account, args.after.as_deref())?;
    let lineages = [&before, &after].map(|entry| account.open(&history.lineage(&entry.name.own)));
    let [one, other] = lineages.each_ref().map(vault::OpenLineage::chain);
    let explain = |error: segment::chain::ChainError| archive::explain(error.into());
    let changes = compare(
        At { snapshot: one.at(before.name.seq).map_err(explain)?, chain: &one },
        At { snapshot: other.at(after.name.seq).map_err(explain)?, chain: &other },
    );
    let changes = changes.map_err(archive::explain)?;
    let userid = args.at.account.as_str();
    let out = match args.json {
        true => format!("{:#}\n", document(userid, [&before, &after], &changes)).into_bytes(),
        false => text(userid, [&before, &after], &changes),
    };
    render::print("the differences", &out)?;
    Ok(Exit::Done)
}

/// A mailbox as its owner knows it.
fn folder(name: &MboxName, userid: &str) -> String {
    MboxName::new(relative_name(name.as_bytes(), userid.as_bytes())).to_string()
}

// Writing into a Vec cannot fail, so the results below are dropped.

fn text(userid: &str, sides: [&Entry; 2], changes: &Changes) -> Vec<u8> {
    let mut out = Vec::new();
    let [before, after] =
        sides.map(|entry| format!("{} of {}", entry.name.seq, rfc3339(entry.name.taken_at)));
    let _ = writeln!(out, "{}: {before} to {after}", plain(userid));
    for mailbox in &changes.mailboxes {
        let _ = writeln!(out, "{}", folder(&mailbox.name, userid));
        for change in &mailbox.changes {
            let _ = writeln!(out, "  {}", plain(&line(change, userid)));
        }
    }
    if !changes.account.is_empty() {
        let _ = writeln!(out, "outside of mailboxes");
    }
    for change in &changes.account {
        let _ = writeln!(out, "  {}", plain(&account_line(change, userid)));
    }
    if changes.is_empty() {
        let _ = writeln!(out, "nothing differs");
    }
    out
}

fn line(change: &Change, userid: &str) -> String {
    match change {
        Change::MailboxCame => "the mailbox is new".to_owned(),
        Change::MailboxWent => "the mailbox is gone".to_owned(),
        Change::Renamed { from } => format!("the mailbox was {}", folder(from, userid)),
        Change::UidValidity { before, after } => {
            format!("uidvalidity changed: {before} -> {after}; messages are not compared")
        }
        Change::Unreadable => {
            "its index was damaged in one of them; messages are not compared".to_owned()
        }
        Change::Acl { identifier, before, after } => {
            let rights = |rights: &Option<Vec<u8>>| match rights {
                Some(rights) => String::from_utf8_lossy(rights).into_owned(),
                None => "none".to_owned(),
            };
            let identifier = String::from_utf8_lossy(identifier);
            format!("rights of {identifier}: {} -> {}", rights(before), rights(after))
        }
        Change::Came(message) => format!("came  {}", message_text(message)),
        Change::Went(message) => format!("went  {}", message_text(message)),
        Change::Replaced { before, after } => {
            format!("other {} -> {}", message_text(before), guid_text(after.guid))
        }
        Change::Flags { message, before, after } => {
            let flags = |flags: &[String]| match flags {
                [] => "none".to_owned(),
                flags => flags.join(" "),
            };
            format!("flags {}  {} -> {}", message_text(message), flags(before), flags(after))
        }
    }
}

fn message_text(message: &Message) -> String {
    format!("{:>6}  {}", message.uid.0, guid_text(message.guid))
}

fn guid_text(guid: Option<Guid>) -> String {
    guid.map_or_else(|| "not stored".to_owned(), |guid| guid.to_string())
}

fn account_line(change: &AccountChange, userid: &str) -> String {
    match change {
        AccountChange::Subscribed(name) => format!("subscribed to {}", folder(name, userid)),
        AccountChange::Unsubscribed(name) => {
            format!("no longer subscribed to {}", folder(name, userid))
        }
        AccountChange::FileCame(name) => format!("{name} is new"),
        AccountChange::FileWent(name) => format!("{name} is gone"),
        AccountChange::FileChanged(name) => format!("{name} changed"),
    }
}

fn document(userid: &str, sides: [&Entry; 2], changes: &Changes) -> Value {
    let [before, after] = sides
        .map(|entry| json!({ "seq": entry.name.seq, "taken_at": rfc3339(entry.name.taken_at) }));
    let mailboxes = changes.mailboxes.iter().map(|mailbox| {
        let changes = mailbox.changes.iter().map(|change| change_json(change, userid));
        json!({ "mailbox": folder(&mailbox.name, userid), "changes": changes.collect::<Vec<_>>() })
    });
    let outside = changes.account.iter().map(|change| account_json(change, userid));
    json!({
        "account": userid,
        "before": before,
        "after": after,
        "mailboxes": mailboxes.collect::<Vec<_>>(),
        "outside": outside.collect::<Vec<_>>(),
    })
}

fn change_json(change: &Change, userid: &str) -> Value {
    let guid = |guid: Option<Guid>| guid.map(|guid| guid.to_string());
    match change {
        Change::MailboxCame => json!({ "change": "mailbox_came" }),
        Change::MailboxWent => json!({ "change": "mailbox_went" }),
        Change::Renamed { from } => json!({ "change": "renamed", "from": folder(from, userid) }),
        Change::UidValidity { before, after } => {
            json!({ "change": "uidvalidity", "before": before.0, "after": after.0 })
        }
        Change::Unreadable => json!({ "change": "unreadable" }),
        Change::Acl { identifier, before, after } => {
            let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
            json!({
                "change": "rights",
                "identifier": text(identifier),
                "before": before.as_ref().map(text),
                "after": after.as_ref().map(text),
            })
        }
        Change::Came(message) => {
            json!({ "change": "came", "uid": message.uid.0, "guid": guid(message.guid) })
        }
        Change::Went(message) => {
            json!({ "change": "went", "uid": message.uid.0, "guid": guid(message.guid) })
        }
        Change::Replaced { before, after } => json!({
            "change": "replaced",
            "uid": after.uid.0,
            "before": guid(before.guid),
            "after": guid(after.guid),
        }),
        Change::Flags { message, before, after } => json!({
            "change": "flags",
            "uid": message.uid.0,
            "guid": guid(message.guid),
            "before": before,
            "after": after,
        }),
    }
}

fn account_json(change: &AccountChange, userid: &str) -> Value {
    match change {
        AccountChange::Subscribed(name) => {
            json!({ "change": "subscribed", "mailbox": folder(name, userid) })
        }
        AccountChange::Unsubscribed(name) => {
            json!({ "change": "unsubscribed", "mailbox": folder(name, userid) })
        }
        AccountChange::FileCame(name) => json!({ "change": "file_came", "file": name }),
        AccountChange::FileWent(name) => json!({ "change": "file_went", "file": name }),
        AccountChange::FileChanged(name) => json!({ "change": "file_changed", "file": name }),
    }
}

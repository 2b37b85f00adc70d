//! A small account, snapshot by snapshot, for the tests of archives.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use model::state::Digest;
use model::{Guid, Uid};
use segment::links::{Link, Links};
use segment::manifest::{
    Cyrus, ManifestHead, Parent, StoredFile, StoredMailbox, TableRow, TakenAt, Totals,
};
use segment::names;
use segment::writer::{Finished, SegmentWriter};
use sha1::{Digest as _, Sha1};

/// When every message arrived.
pub const ARRIVED: i64 = 1_600_000_000;

/// The GUID of these bytes.
pub fn guid_of(bytes: &[u8]) -> Guid {
    Guid(Sha1::digest(bytes).into())
}

/// When snapshot `seq` of any account is taken.
pub fn taken_at(seq: u32) -> i64 {
    1_700_000_000 + i64::from(seq) * 3600
}

/// An account that takes snapshots of itself.
pub struct Account {
    userid: Vec<u8>,
    last: Option<Finished>,
    chain: Option<Digest>,
    links: Links,
    mailboxes: Vec<StoredMailbox>,
    next_seq: Option<u32>,
    part: bool,
}

/// A message of a mailbox.
pub struct Message<'a> {
    pub dir: &'a str,
    pub uid: u32,
    pub body: &'a [u8],
}

/// Short for a [`Message`].
pub fn mail<'a>(dir: &'a str, uid: u32, body: &'a str) -> Message<'a> {
    Message { dir, uid, body: body.as_bytes() }
}

impl Account {
    pub fn new(userid: &str) -> Self {
        Self {
            userid: userid.as_bytes().to_vec(),
            last: None,
            chain: None,
            links: Links::default(),
            mailboxes: Vec::new(),
            next_seq: None,
            part: false,
        }
    }

    /// The next segment has this number.
    pub fn skip_to(&mut self, seq: u32) {
        self.next_seq = Some(seq);
    }

    /// The next segment, as a part of these messages, without links.
    pub fn part(&mut self, bodies: &[&str]) -> Vec<u8> {
        self.part = true;
        let messages: Vec<Message<'_>> = bodies.iter().map(|body| mail("", 1, body)).collect();
        let part = self.snapshot(&[], &messages);
        self.part = false;
        part
    }

    /// What the last snapshot gave.
    pub fn last(&self) -> &Finished {
        self.last.as_ref().expect("a snapshot was taken")
    }

    /// The segment of the next snapshot: the folders named (by their name and their mailbox)
    /// have a new index, the messages are new in their mailboxes.
    pub fn snapshot(&mut self, folders: &[(&str, &str)], messages: &[Message<'_>]) -> Vec<u8> {
        let seq = self.last.as_ref().map_or(1, |last| last.head.seq + 1);
        let seq = self.next_seq.take().unwrap_or(seq);
        let account = names::escape(&self.userid);
        let mut writer = SegmentWriter::new(Vec::new(), &account, seq, taken_at(seq))
            .expect("the account is escaped");
        for (folder, dir) in folders {
            self.write_folder(&mut writer, folder, dir);
        }
        let mut rows: Vec<TableRow> = Vec::new();
        for Message { dir, uid, body } in messages {
            let guid = guid_of(body);
            if rows.iter().all(|row| row.guid != guid) {
                let offset = writer.message(&guid, ARRIVED, body).expect("a message");
                rows.push(TableRow { guid, offset, size: body.len() as u64 });
            }
            if !self.part {
                writer.hard_link(dir, Uid(*uid), &guid, ARRIVED).expect("a hard link");
            }
        }
        rows.sort_by_key(|row| row.guid);
        let sub = writer.account_file("sub", taken_at(seq), b"INBOX.Incoming\n");
        let script = writer.account_file("sieve/My \u{e4}.script", taken_at(seq), b"keep;\n");
        let head = self.head(seq, vec![sub.expect("a file"), script.expect("a file")]);
        let (segment, finished) = writer.finish(head, &rows).expect("a segment");
        assert_eq!(finished.bytes, segment.len() as u64);
        self.chain = self.chain.or(Some(finished.manifest_sha256));
        self.last = Some(finished);
        segment
    }

    fn write_folder(&mut self, writer: &mut SegmentWriter<Vec<u8>>, folder: &str, dir: &str) {
        let at = self.mailboxes.iter().position(|mailbox| mailbox.dir == dir);
        let at = at.unwrap_or_else(|| {
            writer.mailbox_dir(dir).expect("a directory");
            let uniqueid = dir.into();
            let new = StoredMailbox { dir: dir.into(), uniqueid, ..StoredMailbox::default() };
            self.mailboxes.push(new);
            self.mailboxes.len() - 1
        });
        let index = format!("index of {dir} at {}", writer.bytes());
        let stored = writer.mailbox_file(dir, "cyrus.index", ARRIVED, index.as_bytes());
        self.mailboxes[at].files = vec![stored.expect("a file")];
        self.mailboxes[at].name = folder.into();
        if let Link::New(link) = self.links.link(folder.as_bytes(), dir) {
            writer.folder(&link, dir).expect("a link");
        }
    }

    fn head(&self, seq: u32, account_files: Vec<StoredFile>) -> ManifestHead {
        let parent = self.last.as_ref();
        ManifestHead {
            userid: self.userid.as_slice().into(),
            taken_at: TakenAt { unix: taken_at(seq), text: format!("hour {seq}") },
            program: "cylinder test".into(),
            part: self.part,
            parent: parent.map(|p| Parent { seq: p.head.seq, sha256: p.manifest_sha256 }),
            chain: self.chain,
            cyrus: Cyrus { era: "3.6".into() },
            mailboxes: self.mailboxes.clone(),
            links: self.links.to_stored(),
            account_files,
            totals: Totals { mailboxes: self.mailboxes.len() as u64, ..Totals::default() },
            ..ManifestHead::default()
        }
    }
}

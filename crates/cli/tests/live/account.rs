//! An account with a bit of everything that a server keeps for its owner.

use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes};
use testkit::{Cyrus, ImapClient};

use crate::restored::create_user;

/// When the first message arrived; the others follow by the hour.
const FIRST_ARRIVAL: i64 = 1_500_000_000;

/// Above this size the program does not keep a message in memory.
const LARGE: usize = 5 << 20;

/// An account, and two others of the same domain that have to do with it.
#[derive(Clone, Debug)]
pub struct Rich {
    /// The account.
    pub user: String,
    /// Somebody whom it lets into its folders, and who has no mailbox.
    pub guest: String,
    /// Somebody who lets it in.
    pub neighbour: String,
}

impl Rich {
    /// `glad`, or `glad@other.test`, where the server has domains.
    pub fn named(user: &str) -> Self {
        let domain = user.split_once('@').map(|(_, domain)| format!("@{domain}"));
        let domain = domain.unwrap_or_default();
        Self {
            user: user.to_owned(),
            guest: format!("fred.guest{domain}"),
            neighbour: format!("iris{domain}"),
        }
    }

    fn local(&self) -> &str {
        self.user.split('@').next().unwrap_or(&self.user)
    }

    /// Fills the account.
    pub fn fill(&self, cyrus: &Cyrus) {
        for user in [&self.neighbour, &self.user] {
            create_user(cyrus, user);
        }
        let mut client = cyrus.imap_as(&self.user).expect("a client");
        self.make_folders(&mut client);
        fill_folders(&mut client);
        self.share(cyrus, &mut client);
        self.read_of_neighbour(cyrus, &mut client);
        client.logout().expect("a good-bye");
    }

    fn make_folders(&self, client: &mut ImapClient) {
        client.create_for("INBOX/Sent", "\\Sent").expect("a folder with a purpose");
        for folder in ["R&AOk-ports", "a.b", "with space", "x/y/z", "Before", "Before/below", "Old"]
        {
            client.create(&format!("INBOX/{folder}")).expect("a folder");
        }
        for folder in ["INBOX", "INBOX/Sent", "INBOX/a.b"] {
            client.subscribe(folder).expect("a subscription");
        }
        client.rename("INBOX/Before", "INBOX/After").expect("a new name");
        client.set_metadata("INBOX/Sent", "/private/comment", Some("mine")).expect("annotated");
        client
            .set_metadata("INBOX/Sent", "/shared/comment", Some("ours, \"é\""))
            .expect("likewise");
        client.set_metadata("INBOX/a.b", "/shared/comment", Some("dots")).expect("likewise");
    }

    /// Somebody else looks at a folder, and makes a note of his own.
    fn share(&self, cyrus: &Cyrus, client: &mut ImapClient) {
        client.set_acl("INBOX/Sent", &self.guest, "lrsn").expect("rights");
        client.set_acl("INBOX/a.b", "anyone", "lr").expect("rights");
        let mut guest = cyrus.imap_as(&self.guest).expect("the guest");
        let folder = format!("user/{}/Sent", self.local());
        guest.set_metadata(&folder, "/private/comment", Some("the guest's")).expect("annotated");
        guest.select(&folder).expect("a shared folder");
        guest.annotate("1", "/altsubject", "value.priv", "as the guest says").expect("annotated");
    }

    /// The account has read messages of somebody else's: its own seen state says so.
    fn read_of_neighbour(&self, cyrus: &Cyrus, client: &mut ImapClient) {
        let mut neighbour = cyrus.imap_as(&self.neighbour).expect("the neighbour");
        neighbour.create("INBOX/Open").expect("a folder");
        neighbour.set_acl("INBOX/Open", &self.user, "lrs").expect("rights");
        for message in MailGenerator::new(3, Sizes::Small).messages(4) {
            neighbour.append("INBOX/Open", append(&message, &[], 0)).expect("an append");
        }
        let name = self.neighbour.split('@').next().unwrap_or(&self.neighbour);
        let open = format!("user/{name}/Open");
        client.select(&open).expect("the neighbour's folder");
        client.store("2:3", "+FLAGS", &["\\Seen"]).expect("a flag of one's own");
        client.unselect().expect("closed");
        client.subscribe(&open).expect("a subscription");
    }

    /// Changes a bit of everything, for a second snapshot.
    pub fn change(&self, cyrus: &Cyrus) {
        let mut client = cyrus.imap_as(&self.user).expect("a client");
        let message = MailGenerator::new(2, Sizes::Small).message();
        client.append("INBOX/After", append(&message, &["\\Seen"], 90)).expect("an append");
        client.create("INBOX/New").expect("a folder");
        client.rename("INBOX/a.b", "INBOX/New/a.b").expect("a new name");
        client.delete("INBOX/After/below").expect("a deletion");
        client.create("INBOX/After/below").expect("the same name once more");
        client.unsubscribe("INBOX/a.b").expect("no subscription any more");
        client.set_acl("INBOX/Sent", "anyone", "l").expect("rights");
        client.set_metadata("INBOX/Sent", "/shared/comment", Some("changed")).expect("annotated");
        client.set_metadata("INBOX/Sent", "/private/comment", None).expect("annotated no more");
        client.select("INBOX").expect("INBOX");
        client.store("6:8", "+FLAGS", &["Later"]).expect("flags");
        client.store("1", "-FLAGS", &["\\Seen"]).expect("flags");
        client.copy("6", "INBOX/New").expect("a copy");
        client.move_to("7", "INBOX/New").expect("a move");
        client.annotate("8", "/comment", "value.shared", "late").expect("an annotation");
        client.expunge().expect("an expunge");
        client.logout().expect("a good-bye");
    }
}

fn fill_folders(client: &mut ImapClient) {
    let mut mail = MailGenerator::new(1, Sizes::Small);
    let flags: [&[&str]; 5] = [
        &["\\Seen", "$Forwarded"],
        &[],
        &["\\Answered", "\\Seen"],
        &["\\Flagged", "Junk", "$Forwarded"],
        &["\\Draft"],
    ];
    for number in 0..12 {
        let message = mail.message();
        let flags = flags[number as usize % flags.len()];
        let appended = client.append("INBOX", append(&message, flags, number));
        assert_eq!(appended.expect("an append"), number as u32 + 1);
    }
    let large = MailGenerator::new(4, Sizes::About(LARGE)).message();
    client.append("INBOX", append(&large, &["\\Seen"], 50)).expect("a large message");
    let twice = mail.message();
    for folder in ["INBOX/a.b", "INBOX/a.b", "INBOX/x/y/z", "INBOX/Old", "INBOX/After/below"] {
        client.append(folder, append(&twice, &[], 60)).expect("an append");
    }
    let old = mail.message();
    client.append("INBOX/Old", append(&old, &["Junk"], 70)).expect("an append");
    client.delete("INBOX/Old").expect("a deletion");
    client.select("INBOX").expect("INBOX");
    assert_eq!(client.copy("2:4", "INBOX/Sent").expect("a copy"), [1, 2, 3]);
    client.copy("9", "INBOX/R&AOk-ports").expect("a copy");
    client.store("3,5", "+FLAGS", &["\\Deleted"]).expect("flags");
    client.uid_expunge("3").expect("an expunge");
    client.move_to("10", "INBOX/with space").expect("a move");
    client.annotate("1", "/comment", "value.priv", "read \"it\"").expect("an annotation");
    client.annotate("2", "/comment", "value.shared", "for all").expect("an annotation");
    client.unselect().expect("closed");
}

fn append<'a>(message: &'a [u8], flags: &'a [&'a str], hour: i64) -> Append<'a> {
    Append { message, flags, internaldate: Some(FIRST_ARRIVAL + hour * 3600) }
}

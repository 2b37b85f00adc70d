//! A Cyrus on what was restored, as the restored imapd.conf describes it.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;
use testkit::{Cyrus, CyrusBuilder, ImapView};

/// A directory that Cyrus can look into, for archives and for what is restored from them.
pub fn scratch() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("cylinder-live-").permissions(Permissions::from_mode(0o755));
    builder.tempdir().expect("a temporary directory")
}

/// Sets up a Cyrus on a restored tree. Its imapd.conf is taken at its word; owners and
/// permissions are left as the restore made them.
pub fn builder_on(builder: &CyrusBuilder, tree: &Path) -> CyrusBuilder {
    let text = fs::read_to_string(tree.join("imapd.conf")).expect("a restored imapd.conf");
    builder.clone().conf(&text)
}

/// Starts a Cyrus on a restored tree.
pub fn serve(builder: &CyrusBuilder, tree: &Path) -> Cyrus {
    let started = builder_on(builder, tree).start();
    started.unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
}

/// Everything of an account that can be seen from outside: as its owner sees it, as the admin
/// sees what is deleted but kept, and what is expunged but kept.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The account's own mailboxes, as their owner sees them.
    pub own: ImapView,
    /// Its deleted mailboxes, as the admin sees them.
    pub deleted: ImapView,
    /// What `unexpunge` lists, by mailbox.
    pub expunged: Vec<(String, String)>,
}

impl Seen {
    /// Looks at an account; `user` is as he logs in.
    pub fn of(cyrus: &Cyrus, user: &str) -> Self {
        let mut own = cyrus.view(user).expect("the owner's view");
        own.folders.retain(|name, _| name.starts_with("INBOX"));
        // Cyrus does not show subscriptions to what is not there.
        own.subscriptions.retain(|name| name.starts_with("INBOX"));
        let roots = own.folders.values().filter_map(|folder| folder.quota_root.clone());
        let roots: BTreeSet<String> = roots.collect();
        own.quotas.retain(|root, _| roots.contains(root));
        let mut admin = cyrus.admin().expect("the admin");
        let deleted = ImapView::of_mailboxes(&mut admin, "DELETED/*").expect("the admin's view");
        let mut expunged = Vec::new();
        for name in own.folders.keys() {
            let name = admin_name(user, name);
            let listed = cyrus.tool("unexpunge", &["-l", &name]).expect("unexpunge lists").stdout;
            expunged.push((name, listed));
        }
        Self { own, deleted, expunged }
    }

    /// Without what `reconstruct` changes when it writes a cache: modseqs and the sums of them, and
    /// the times of expunged records.
    pub fn without_modseqs(mut self) -> Self {
        for folder in self.own.folders.values_mut().chain(self.deleted.folders.values_mut()) {
            folder.highest_modseq = 0;
            folder.annotations.retain(|entry, _| !entry.ends_with("/synccrcs"));
            folder.messages.values_mut().for_each(|message| message.modseq = 0);
        }
        for (_, listed) in &mut self.expunged {
            let kept = listed.lines().filter(|line| !line.starts_with("\tExpg:"));
            *listed = kept.collect::<Vec<_>>().join("\n");
        }
        self
    }

    /// A line for each difference.
    pub fn differences(&self, found: &Seen) -> Vec<String> {
        let mut lines = self.own.differences(&found.own);
        lines.extend(self.deleted.differences(&found.deleted));
        for (want, have) in self.expunged.iter().zip(&found.expunged) {
            if want != have {
                lines.push(format!("expunged: expected {want:?}, found {have:?}"));
            }
        }
        if self.expunged.len() != found.expunged.len() {
            lines.push("expunged: other mailboxes".to_owned());
        }
        lines
    }
}

/// Creates an account into whose mailboxes the admin may look, also when they are deleted.
pub fn create_user(cyrus: &Cyrus, user: &str) {
    cyrus.create_user(user).expect("a user");
    let inbox = admin_name(user, "INBOX");
    let mut admin = cyrus.admin().expect("the admin");
    admin.set_acl(&inbox, "cyrus", "lrswipkxtecda").expect("rights");
    admin.set_quota(&inbox, "STORAGE 10000000 MESSAGE 1000000").expect("a quota");
}

/// `INBOX/Sent` as the admin calls it: `user/glad/Sent`, `user/ann/Sent@other.test`.
pub fn admin_name(user: &str, name: &str) -> String {
    let (local, domain) = user.split_once('@').map_or((user, None), |(l, d)| (l, Some(d)));
    let below = name.strip_prefix("INBOX").expect("a folder of one's own");
    let domain = domain.map(|domain| format!("@{domain}")).unwrap_or_default();
    format!("user/{local}{below}{domain}")
}

/// Lets `reconstruct` parse every message of a mailbox and of those below it again, and compare GUIDs:
/// what it says, but for the cache, which is no part of a snapshot.
pub fn reconstruct(cyrus: &Cyrus, mailbox: &str) -> Vec<String> {
    let said = cyrus.tool("reconstruct", &["-G", "-R", "-r", mailbox]).expect("it works");
    let lines = said.stdout.lines().filter(|line| !line.contains(" rewrote cache for "));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Lets `reconstruct` loose on an account. On what was restored it must find nothing to do that it
/// does not find on the original, and what clients see must stay what it was.
pub fn check_reconstructed(original: &Cyrus, restored: &Cyrus, user: &str) {
    let inbox = admin_name(user, "INBOX");
    assert_eq!(reconstruct(original, &inbox), reconstruct(restored, &inbox));
    let [want, have] = [original, restored].map(|cyrus| Seen::of(cyrus, user).without_modseqs());
    assert_eq!(want.differences(&have), Vec::<String>::new(), "after reconstruct");
}

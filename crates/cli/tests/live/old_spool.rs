//! Spools that were built without Cyrus.

use std::path::{Path, PathBuf};

use testkit::CyrusBuilder;
use testkit::mail::{MailGenerator, Sizes};
use testkit::spool_builder::{EPOCH, Era, NewMessage, Spool, SpoolBuilder, SpoolOptions};

/// Makes everything in a built spool belong to Cyrus, as if it had written it. No server looks at
/// it: one of today would not leave it as it is.
pub fn prepare(builder: &CyrusBuilder, spool: &Spool) {
    let mut builder = builder
        .clone()
        .directory("configdirectory", &spool.config_directory)
        .directory("partition-default", &spool.partition);
    if let Some(path) = &spool.metapartition {
        builder = builder.directory("metapartition-default", path);
    }
    builder.give_to_cyrus().prepare().expect("directories change their owner");
}

/// An account `glad` of 2.3 with two mailboxes of which something is expunged; its imapd.conf, and the
/// directories of the mailboxes in the order of their names.
pub fn build_2_3(builder: &CyrusBuilder, root: &Path) -> (PathBuf, Vec<PathBuf>) {
    let root = root.join("old");
    let mut spool = SpoolBuilder::create(&root, SpoolOptions::new(Era::V2_3)).expect("a spool");
    let mut mail = MailGenerator::new(1, Sizes::Small);
    let mut directories = Vec::new();
    for name in ["user.glad", "user.glad.Sent"] {
        let mut mailbox = spool.mailbox(name).expect("a mailbox");
        directories.push(mailbox.directory().to_owned());
        for expunged in [None, Some(EPOCH)] {
            let bytes = mail.message();
            let message = NewMessage { bytes: &bytes, expunged, ..NewMessage::default() };
            mailbox.add(&message).expect("a message");
        }
        spool.finish_mailbox(mailbox).expect("a mailbox");
    }
    let spool = spool.finish().expect("a spool");
    prepare(builder, &spool);
    (spool.imapd_conf, directories)
}

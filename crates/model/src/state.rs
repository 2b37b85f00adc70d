//! An account as one endpoint describes it: its mailboxes and files, each with a fingerprint.

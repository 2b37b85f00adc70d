//! Whether a real Cyrus can be started here, and what a test does if not.

use std::path::Path;

use super::CyrusBuilder;
use crate::skip::{Need, skip};

/// Where Debian keeps the programs.
pub(super) const PROGRAMS: &str = "/usr/lib/cyrus/bin";
pub(super) const MASTER: &str = "/usr/sbin/cyrmaster";

/// Set this, and everything that a real Cyrus is needed for is skipped: `cargo xtask test --quick`.
const QUICK: &str = "CYLINDER_QUICK";

/// The user whose files a spool's files are, and whom the servers run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CyrusUser {
    /// User id.
    pub uid: u32,
    /// Id of the primary group.
    pub gid: u32,
}

/// A builder of a real Cyrus; or, where Cyrus is not installed or this is not root, a note that
/// `test` is skipped, and `None`.
///
/// # Panics
///
/// Instead of skipping, if `CYLINDER_REQUIRE_CYRUS` is set.
pub fn cyrus_or_skip(test: &str) -> Option<CyrusBuilder> {
    match available() {
        Ok(user) => Some(CyrusBuilder::new(user)),
        Err(lacking) => {
            skip(test, Need::Cyrus, &lacking);
            None
        }
    }
}

/// The user of an installed Cyrus that this process is able to start, or what is lacking.
pub(super) fn available() -> Result<CyrusUser, String> {
    if std::env::var_os(QUICK).is_some() {
        return Err(format!("more time ({QUICK} is set)"));
    }
    for program in [MASTER, "/usr/lib/cyrus/bin/imapd", "/usr/lib/cyrus/bin/sync_server"] {
        if !Path::new(program).exists() {
            return Err(format!("Cyrus installed ({program} is missing)"));
        }
    }
    if !rustix::process::geteuid().is_root() {
        return Err("to run as root, which Cyrus' master is started as".into());
    }
    let passwd = std::fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    user_of(&passwd, "cyrus").ok_or_else(|| "a user named cyrus".into())
}

fn user_of(passwd: &str, name: &str) -> Option<CyrusUser> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(CyrusUser { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_his_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\ncyrus2:x:9:9::/:\ncyrus:x:103:8:C,,:/v:/n\n";
        assert_eq!(user_of(passwd, "cyrus"), Some(CyrusUser { uid: 103, gid: 8 }));
        assert_eq!(user_of(passwd, "glad"), None);
    }
}

//! Acting as Cyrus' own user.
//!
//! A backup is often started by root, but must not leave a lock file behind that Cyrus cannot
//! open. So root lends its place to Cyrus' user while the spool is touched, and comes back to
//! write the output.

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::path::Path;

use rustix::process::{Gid, Uid, getegid, geteuid, getgroups};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::error::{Result, SpoolError};

/// The calling thread acts as another user until this is dropped.
///
/// Only this thread, and threads that it starts meanwhile, are affected; those keep the identity
/// that they were started with. The saved user id stays root's, which is what makes the way back
/// possible.
#[derive(Debug)]
pub struct ActingAs {
    user: String,
    acting: Acting,
    /// Credentials belong to a thread, so the guard must not leave it.
    not_send: PhantomData<*const ()>,
}

#[derive(Debug)]
enum Acting {
    /// Root became the user, and goes back to this.
    Instead { uid: Uid, gid: Gid, groups: Vec<Gid> },
    /// The process was started as the user.
    AsStarted,
    /// The process was started as somebody else who cannot become the user.
    AsSomebodyElse,
}

impl ActingAs {
    /// Makes the calling thread act as `user` if it is root's, and leaves it as it is otherwise.
    ///
    /// # Errors
    ///
    /// [`SpoolError::UnknownUser`] if root is to become a user that /etc/passwd does not list.
    pub fn user(user: &str) -> Result<Self> {
        let identity = Identity::find(user)?;
        let me = geteuid();
        let guard =
            |acting| Self { user: user.to_owned(), acting, not_send: PhantomData::<*const ()> };
        match identity {
            Some(identity) if identity.uid == me.as_raw() => Ok(guard(Acting::AsStarted)),
            _ if !me.is_root() => Ok(guard(Acting::AsSomebodyElse)),
            None => Err(SpoolError::UnknownUser { user: user.to_owned() }),
            Some(identity) => {
                let failed = |source| SpoolError::Credentials { user: user.to_owned(), source };
                // The guard comes first: if only half of the change succeeds, it undoes that.
                let guard = guard(Acting::Instead {
                    uid: me,
                    gid: getegid(),
                    groups: getgroups().map_err(|errno| failed(errno.into()))?,
                });
                become_user(&identity).map_err(failed)?;
                Ok(guard)
            }
        }
    }

    /// Whether files are now touched as that user. If not, an error about permissions may come
    /// from there.
    pub fn is_user(&self) -> bool {
        !matches!(self.acting, Acting::AsSomebodyElse)
    }

    /// The user asked for.
    pub fn name(&self) -> &str {
        &self.user
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        let Acting::Instead { uid, gid, groups } = &self.acting else { return };
        // The user first: only root may set the rest. None of it can fail for root, and if it
        // did, this thread would only be left with fewer rights than it had.
        let _ = set_thread_res_uid(None, *uid, None);
        let _ = set_thread_res_gid(None, *gid, None);
        let _ = set_thread_groups(groups);
    }
}

/// A user as /etc/passwd and /etc/group describe him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

impl Identity {
    /// Looks a user up by name. The files are read directly: a name service would need code that
    /// is loaded at run time.
    pub fn find(user: &str) -> Result<Option<Self>> {
        let read = |path: &str| {
            fs::read(path).map_err(|source| SpoolError::Io {
                op: "read",
                path: Path::new(path).to_owned(),
                source,
            })
        };
        Ok(Self::parse(user, &read("/etc/passwd")?, &read("/etc/group")?))
    }

    fn parse(user: &str, passwd: &[u8], group: &[u8]) -> Option<Self> {
        let line = passwd.split(|b| *b == b'\n').map(fields).find(|f| f[0] == user.as_bytes())?;
        let uid = number(line.get(2)?)?;
        let gid = number(line.get(3)?)?;
        let mut groups = vec![gid];
        for line in group.split(|b| *b == b'\n').map(fields) {
            let [_, _, id, members] = line.as_slice() else { continue };
            let member = members.split(|b| *b == b',').any(|name| name == user.as_bytes());
            match number(id) {
                Some(id) if member && !groups.contains(&id) => groups.push(id),
                _ => {}
            }
        }
        Some(Self { uid, gid, groups })
    }
}

fn fields(line: &[u8]) -> Vec<&[u8]> {
    line.split(|b| *b == b':').collect()
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Groups first, the user last: after that the rest would no longer be allowed.
fn become_user(identity: &Identity) -> io::Result<()> {
    let groups: Vec<Gid> = identity.groups.iter().map(|id| Gid::from_raw(*id)).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(None, Gid::from_raw(identity.gid), None)?;
    set_thread_res_uid(None, Uid::from_raw(identity.uid), None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n\nbroken\ncyrus:x:103:8:Cyrus:/var:/bin/sh\nx:y:z\n";
    const GROUP: &[u8] =
        b"mail:x:8:cyrus\nsasl:x:45:postfix,cyrus\nother:x:46:cyrus2\nbad:x:no:cyrus\nshort:x\n";

    #[test]
    fn a_user_has_his_own_group_and_those_that_list_him() {
        let cyrus = Identity { uid: 103, gid: 8, groups: vec![8, 45] };
        assert_eq!(Identity::parse("cyrus", PASSWD, GROUP), Some(cyrus));
    }

    #[test]
    fn a_user_without_a_line_or_without_ids_is_unknown() {
        for name in ["nobody", "broken", "x", "cyru"] {
            assert_eq!(Identity::parse(name, PASSWD, GROUP), None, "{name}");
        }
    }
}

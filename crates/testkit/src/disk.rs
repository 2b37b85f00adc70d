//! A disk that is soon full.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process;
use crate::skip::{Need, skip};

const LIMIT: Duration = Duration::from_secs(30);

/// What takes the room away: a file at the root of the disk.
const BALLAST: &str = "ballast";

/// What is written at a time: less than a block of any file system, so that no byte is left.
const PIECE: usize = 512;

/// A file system in memory, mounted until this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    root: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk of so many KiB on a directory, which is made; or notes that `test` is skipped
    /// where nobody may mount.
    ///
    /// # Panics
    ///
    /// Instead of skipping, if `CYLINDER_REQUIRE_TOOLS` is set; if the directory cannot be made.
    pub fn or_skip(test: &str, root: &Path, kib: u32) -> Option<Self> {
        fs::create_dir(root).expect("a directory to mount on");
        let mut mount = Command::new("/bin/mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k,mode=0700"), "tmpfs"]).arg(root);
        match process::run(&mut mount, b"", LIMIT) {
            Ok(output) if output.status.success() => Some(Self { root: root.to_owned() }),
            _ => {
                skip(test, Need::Tools, "the right to mount a file system");
                None
            }
        }
    }

    /// Fills it but for so many bytes, or nearly: it gives room in whole pages.
    ///
    /// # Errors
    ///
    /// What the system says, but for that it is full.
    pub fn fill_but(&self, bytes: u64) -> io::Result<()> {
        self.free()?;
        let mut ballast = File::create(self.root.join(BALLAST))?;
        let piece = [0; PIECE];
        let mut written = 0_u64;
        loop {
            match ballast.write(&piece) {
                Ok(n) => written += n as u64,
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
        ballast.set_len(written.saturating_sub(bytes))
    }

    /// Gives all room back.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn free(&self) -> io::Result<()> {
        match fs::remove_file(self.root.join(BALLAST)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open does not keep it in the way of others.
        drop(process::run(Command::new("/bin/umount").arg("-l").arg(&self.root), b"", LIMIT));
    }
}

//! Where an archive is written: standard output, or a file that appears only when complete.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::error::CliError;

/// What any user may have in a pipe (/proc/sys/fs/pipe-max-size).
const PIPE_BYTES: usize = 1 << 20;

/// The file or stream an archive goes to.
pub enum Output {
    /// Standard output, or something else that has its name already, such as a pipe: it takes the
    /// bytes as they come.
    Stream(File),
    /// A file that has no name yet, or only a temporary one.
    Staged(Staged),
}

/// A file that gets its name when it is complete and on the disk.
pub struct Staged {
    file: File,
    path: PathBuf,
    /// The name it has meanwhile, where the file system knows no files without one.
    temporary: Option<PathBuf>,
}

impl Output {
    /// Opens the output; with no path, standard output, unless that is a terminal.
    pub fn open(path: Option<&Path>) -> Result<Self, CliError> {
        let Some(path) = path else {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return Err(CliError::usage("a snapshot is not written to a terminal")
                    .hint("send it to a file with -o FILE, or to a pipe"));
            }
            // Not through the library's handle, which looks for line ends in all that passes.
            let own = stdout.as_fd().try_clone_to_owned();
            let own = own.map_err(|error| CliError::failed("cannot use standard output", error))?;
            return Ok(Self::stream(File::from(own)));
        };
        Self::create(path).map_err(|error| {
            CliError::failed(format!("cannot write {}", path.display()), error)
                .hint("the file is made in its own directory, which must exist and be writable")
        })
    }

    /// A stream; if it is a pipe, with more room, so that writer and reader wait for each other
    /// less often.
    fn stream(file: File) -> Self {
        // It is a favour that the kernel may refuse, and that only pipes can be asked for.
        let _ = rustix::pipe::fcntl_setpipe_size(&file, PIPE_BYTES);
        Self::Stream(file)
    }

    /// Opens a file as the output.
    pub fn create(path: &Path) -> io::Result<Self> {
        match std::fs::metadata(path) {
            // A device or a pipe must never be replaced by a file.
            Ok(found) if !found.is_file() && !found.is_dir() => {
                Ok(Self::stream(OpenOptions::new().write(true).open(path)?))
            }
            _ => Ok(Self::Staged(Staged::create(path)?)),
        }
    }

    /// Makes the output durable and gives it its name.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        match self {
            Self::Stream(_) => Ok(()),
            Self::Staged(staged) => staged.publish(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.write(bytes),
            Self::Staged(staged) => staged.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.flush(),
            Self::Staged(staged) => staged.file.flush(),
        }
    }
}

impl Staged {
    /// Makes a file without a name in the directory of `path`: whatever kills the process, no
    /// trace of it stays. Where the file system cannot do that, the file has a temporary name.
    fn create(path: &Path) -> io::Result<Self> {
        if path.is_dir() || path.file_name().is_none() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        let mode = Mode::RUSR | Mode::WUSR;
        let unnamed = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, directory(path), unnamed, mode) {
            Ok(file) => Ok(Self { file: File::from(file), path: path.to_owned(), temporary: None }),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
                let temporary = temporary_name(path);
                let named = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let open =
                    || rustix::fs::openat(CWD, &temporary, named, mode).map_err(io::Error::from);
                let file = anew(&temporary, open)?;
                Ok(Self {
                    file: File::from(file),
                    path: path.to_owned(),
                    temporary: Some(temporary),
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the file its name: in one step if there is no such file yet, so that nothing is left
    /// behind whenever the process dies. A link cannot replace a file, but a rename can, and that
    /// takes two steps.
    fn publish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let is_published = self.temporary.is_none() && self.link(&self.path)?;
        if !is_published {
            let temporary = match self.temporary.clone() {
                Some(temporary) => temporary,
                None => self.link_temporarily()?,
            };
            std::fs::rename(&temporary, &self.path)?;
            self.temporary = None;
        }
        File::open(directory(&self.path))?.sync_all()
    }

    /// Links the file to a name; `false` if there is such a file already.
    fn link(&self, path: &Path) -> io::Result<bool> {
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        match rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn link_temporarily(&mut self) -> io::Result<PathBuf> {
        let temporary = temporary_name(&self.path);
        anew(&temporary, || match self.link(&temporary)? {
            true => Ok(()),
            false => Err(io::ErrorKind::AlreadyExists.into()),
        })?;
        self.temporary = Some(temporary.clone());
        Ok(temporary)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // The run failed already, and said why; a leftover is named after this process.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// Makes a file of that name, in place of one that a process of this number has left: in a container, the
/// next one has the same number, and it would be in the way for ever.
fn anew<T>(temporary: &Path, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match make() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(temporary)?;
            make()
        }
        made => made,
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or(OsStr::new("snapshot")));
    name.push(format!(".cylinder-{}", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_a_process_of_this_number_left_is_in_nobodys_way() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("list");
        for text in ["first", "second"] {
            fs::write(temporary_name(&path), "left").expect("written");
            let mut output = Output::create(&path).expect("a file");
            output.write_all(text.as_bytes()).expect("written");
            output.finish().expect("it has its name");
            assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
        }
        assert!(!temporary_name(&path).exists());
    }
}

//! Archive files: opened, decompressed where they must be, and searched for segments.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use engine::archive::ArchiveError;
use jiff::tz::TimeZone;
use model::Userid;
use segment::ReadAt;
use segment::chain::{self, Chain, ChainError, Snapshot};
use segment::compress::{Compression, Decoder, SeekableError, SeekableZstd, sniff};
use segment::names;
use segment::reader::{ReadError, SegmentRef, survey};

use crate::error::CliError;
use crate::when::{At, parse_at};

/// The archives of one command, in the order in which they were named.
pub struct Archives {
    files: Vec<Archive>,
}

struct Archive {
    path: PathBuf,
    bytes: Box<dyn ReadAt>,
    /// Why it could not be decompressed to its end.
    cut: Option<io::Error>,
}

/// A regular file, read at any place.
struct ArchiveFile {
    file: File,
    len: u64,
}

impl ArchiveFile {
    fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, len })
    }
}

impl ReadAt for ArchiveFile {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn len(&self) -> u64 {
        self.len
    }
}

/// What was found in the archives.
pub struct Found<'a> {
    /// The segments that are whole.
    pub segments: Vec<SegmentRef<'a>>,
    /// What is wrong with the files that are not.
    pub trouble: Vec<CliError>,
}

impl Archives {
    /// Opens them all. What cannot be read at any place is first unpacked into a temporary file.
    pub fn open(paths: &[PathBuf]) -> Result<Self, CliError> {
        let mut files = Vec::new();
        for path in paths {
            let (bytes, cut) = open(path).map_err(|error| {
                let hint = match error.kind() {
                    io::ErrorKind::StorageFull => {
                        "it is unpacked into a temporary file; TMPDIR can name a larger place"
                    }
                    _ => "check the name and the permissions",
                };
                CliError::failed(format!("cannot read {}", path.display()), error).hint(hint)
            })?;
            files.push(Archive { path: path.clone(), bytes, cut });
        }
        Ok(Self { files })
    }

    /// Finds the segments, and what is wrong with files that do not consist of segments alone.
    pub fn search(&self) -> Found<'_> {
        let mut found = Found { segments: Vec::new(), trouble: Vec::new() };
        for Archive { path, bytes, cut } in &self.files {
            let survey = survey(&**bytes);
            let holds_none = survey.segments.is_empty();
            found.segments.extend(survey.segments);
            // That what is decompressed breaks off then tells nothing more.
            let trouble = match (cut, survey.trouble) {
                (Some(error), _) => Some(explain_cut(path, bytes.len(), error)),
                (None, Some(error)) => Some(explain_read(path, error)),
                (None, None) => holds_none.then(|| explain_nothing(path)),
            };
            found.trouble.extend(trouble);
        }
        found
    }

    /// The segments of archives that are wholly in order.
    pub fn segments(&self) -> Result<Vec<SegmentRef<'_>>, CliError> {
        let found = self.search();
        match found.trouble.into_iter().next() {
            Some(trouble) => Err(trouble),
            None => Ok(found.segments),
        }
    }
}

/// The chain of an account that has its newest snapshot.
pub fn newest_chain<'a>(
    segments: &[SegmentRef<'a>],
    userid: &Userid,
) -> Result<Chain<'a>, CliError> {
    let account = names::account(userid.as_bytes());
    chain::newest(segments, &account).map_err(|error| {
        let there = chain::accounts(segments).join(", ");
        let wrong_account = matches!(error, ChainError::NoAccount { .. });
        let error = explain(error.into());
        match there.as_str() {
            "" => error.hint("the archive holds no snapshots at all"),
            there if wrong_account => error.hint(format!("the archive holds {there}")),
            _ => error,
        }
    })
}

/// The snapshot that `--at` means: by number, by time, or the newest.
pub fn choose<'c, 'a>(
    chain: &'c Chain<'a>,
    at: Option<&str>,
) -> Result<&'c Snapshot<'a>, CliError> {
    let Some(at) = at else {
        return chain.newest().map_err(|error| explain(error.into()));
    };
    let chosen = match parse_at(at, &TimeZone::system()) {
        Some(At::Seq(seq)) => chain.at(u32::try_from(seq).unwrap_or(u32::MAX)),
        Some(At::Time(time)) => chain.at_time(time),
        None => {
            return Err(CliError::usage(format!("--at {at} is neither a number nor a time")).hint(
                "use a snapshot's number, or a time like 2026-11-23 or 2026-11-23T19:00:00Z",
            ));
        }
    };
    chosen.map_err(|error| explain(error.into()))
}

/// An error of a stored snapshot, with what to try.
pub fn explain(error: ArchiveError) -> CliError {
    let hint = match &error {
        ArchiveError::Chain(ChainError::Hole { .. } | ChainError::ForeignParent { .. }) => {
            Some("name all files of the chain, or restore an earlier snapshot with --at")
        }
        ArchiveError::Chain(ChainError::Fork { .. }) => {
            Some("two snapshots continue the same one; name only the files of one branch")
        }
        ArchiveError::Chain(ChainError::NoSnapshot { .. } | ChainError::NothingYet { .. }) => {
            Some("cylinder list shows which snapshots there are")
        }
        ArchiveError::Read(_)
        | ArchiveError::Exceptions { .. }
        | ArchiveError::Catalog { .. }
        | ArchiveError::Chain(ChainError::Manifest { .. }) => {
            Some("the archive is damaged there; try another copy, or an earlier snapshot with --at")
        }
        ArchiveError::Cut { .. } => Some("give the whole mailbox: --mailbox, without --guid"),
        ArchiveError::Chain(_) => None,
    };
    let explained = CliError::failed("cannot use the archive", error);
    match hint {
        Some(hint) => explained.hint(hint),
        None => explained,
    }
}

fn explain_read(path: &Path, error: ReadError) -> CliError {
    let hint = match &error {
        ReadError::Foreign { .. } => {
            "this is a tar, or some other file, that cylinder did not make"
        }
        ReadError::Unfinished { .. } | ReadError::Broken { .. } => {
            "it was cut short or damaged; what is whole in it is shown by cylinder list, and \
             given back by cylinder restore --salvage"
        }
        _ => "try another copy of the file; --salvage restores what is whole",
    };
    CliError::failed(format!("cannot use {}", path.display()), error).hint(hint)
}

fn explain_nothing(path: &Path) -> CliError {
    CliError::plain(format!("{} holds no snapshot", path.display()))
        .hint("it is empty, or nothing but zeros; try another copy of the file")
}

fn explain_cut(path: &Path, len: u64, error: &io::Error) -> CliError {
    let what = format!("cannot decompress {} behind byte {len} of its content", path.display());
    CliError::failed(what, error.to_string()).hint(
        "it was cut short or damaged; cylinder restore --salvage restores what is whole in it",
    )
}

/// The bytes of an archive, and why they break off if they do.
type Opened = (Box<dyn ReadAt>, Option<io::Error>);

fn open(path: &Path) -> io::Result<Opened> {
    let mut file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut first = Vec::with_capacity(4);
    (&mut file).take(4).read_to_end(&mut first)?;
    let how = sniff(&first);
    if file.rewind().is_err() {
        // A pipe gives its bytes once.
        let rest = BufReader::new(io::Cursor::new(first).chain(file));
        return unpack(Decoder::new(rest, how)?);
    }
    match how {
        Compression::None => Ok((Box::new(ArchiveFile::new(file)?), None)),
        Compression::Zstd => match SeekableZstd::open(ArchiveFile::new(file.try_clone()?)?) {
            Ok(seekable) => Ok((Box::new(seekable), None)),
            Err(SeekableError::NoTable { .. }) => unpack(decoder(file, how)?),
            Err(SeekableError::Read(error)) => Err(error),
        },
        Compression::Gzip => unpack(decoder(file, how)?),
    }
}

fn decoder(file: File, how: Compression) -> io::Result<Decoder<BufReader<File>>> {
    Decoder::new(BufReader::with_capacity(256 << 10, file), how)
}

/// Copies a stream into a temporary file without a name: it is gone with the process. A stream
/// that breaks off gives what came before.
fn unpack(mut stream: impl Read) -> io::Result<Opened> {
    let mut out = tempfile::tempfile()?;
    let mut piece = vec![0; 1 << 20];
    let cut = loop {
        match stream.read(&mut piece) {
            Ok(0) => break None,
            Ok(n) => out.write_all(&piece[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Some(error),
        }
    };
    Ok((Box::new(ArchiveFile::new(out)?), cut))
}

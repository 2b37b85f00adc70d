//! The programs that people have read what is written here: to its end, without flags, without a
//! word. Mail comes back even if Cylinder is gone.
//!
//! A program that is not installed is passed over with a note, unless `CYLINDER_REQUIRE_TOOLS` is
//! set: then it is an error. On Debian: `apt-get install tar libarchive-tools busybox python3
//! gzip zstd`.

mod sample;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use sample::{ARRIVED, Account, guid_of, mail};
use segment::compress::{Compression, Writer};
use segment::entry::{Random, Scan};
use segment::names;

/// Extracts an archive, as any program in Python would.
const PYTHON_EXTRACT: &str = "
import sys, tarfile
safe = {'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}
with tarfile.open(sys.argv[1]) as archive:
    archive.extractall('.', **safe)
";

/// Lists an archive.
const PYTHON_LIST: &str = "
import sys, tarfile
with tarfile.open(sys.argv[1]) as archive:
    for entry in archive:
        print(entry.name + ('/' if entry.isdir() else ''))
";

/// A program that reads tars. The name of the archive follows the arguments.
struct Tool {
    name: &'static str,
    list: &'static [&'static str],
    extract: &'static [&'static str],
    /// To extract what gzip made, if it must be told so.
    extract_gzip: Option<&'static [&'static str]>,
    /// Whether it knows zstd.
    zstd: bool,
}

const TOOLS: [Tool; 4] = [
    Tool {
        name: "tar",
        list: &["tar", "tf"],
        extract: &["tar", "xf"],
        extract_gzip: None,
        zstd: true,
    },
    Tool {
        name: "bsdtar",
        list: &["bsdtar", "tf"],
        extract: &["bsdtar", "xf"],
        extract_gzip: None,
        zstd: true,
    },
    Tool {
        name: "busybox",
        list: &["busybox", "tar", "tf"],
        extract: &["busybox", "tar", "xf"],
        extract_gzip: Some(&["busybox", "tar", "xzf"]),
        zstd: false,
    },
    Tool {
        name: "python3",
        list: &["python3", "-W", "error", "-c", PYTHON_LIST],
        extract: &["python3", "-W", "error", "-c", PYTHON_EXTRACT],
        extract_gzip: None,
        zstd: false,
    },
];

/// Whether the program is there; says so if not.
fn installed(program: &str) -> bool {
    let there = Command::new(program)
        .arg("--help")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !there {
        assert!(std::env::var_os("CYLINDER_REQUIRE_TOOLS").is_none(), "{program} is not installed");
        eprintln!("passed over: {program} is not installed");
    }
    there
}

/// Runs a command on an archive in a directory and gives what it printed. It must succeed and
/// have nothing to say.
fn run(command: &[&str], dir: &Path, archive: &[u8]) -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(archive).expect("room for it");
    let output = Command::new(command[0])
        .args(&command[1..])
        .arg(file.path())
        .current_dir(dir)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .expect("it is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{command:?}: {}: {said}", output.status);
    output.stdout
}

/// Segments of three accounts, in the order in which they were written.
struct Archive {
    segments: Vec<Vec<u8>>,
    /// A userid so long that its names need everything a tar header can do.
    long: String,
}

impl Archive {
    fn new() -> Self {
        let long = "l\u{f6}ng ".repeat(40);
        let long_folder = format!("INBOX.{}", "x".repeat(120));
        let mut glad = Account::new("glad");
        let mut iris = Account::new("iris@example.org");
        let mut other = Account::new(&long);
        let segments = vec![
            glad.snapshot(
                &[("INBOX", "d1"), ("INBOX.a", "d2")],
                &[mail("d1", 1, "one"), mail("d1", 2, "two"), mail("d2", 1, "one")],
            ),
            iris.snapshot(&[("INBOX", "e1")], &[mail("e1", 4_294_967_295, "else")]),
            other.snapshot(&[(&long_folder, &"f".repeat(150))], &[mail(&"f".repeat(150), 1, "f")]),
            // INBOX.a is renamed, and another one is made in its place; one more message, and
            // a copy of an old one.
            glad.snapshot(
                &[("INBOX.b", "d2"), ("INBOX.a", "d3")],
                &[mail("d3", 1, "three"), mail("d2", 2, &"large ".repeat(100_000))],
            ),
            iris.snapshot(&[("INBOX", "e1")], &[]),
            // And once more.
            glad.snapshot(&[("INBOX.a", "d4")], &[mail("d4", 1, "four")]),
            other.snapshot(&[(&long_folder, &"g".repeat(40))], &[]),
        ];
        Self { segments, long }
    }

    fn bytes(&self) -> Vec<u8> {
        self.segments.concat()
    }

    fn names(&self) -> Vec<String> {
        let bytes = self.bytes();
        let mut scan = Scan::new(Random::new(&bytes, 0, u64::MAX), 0);
        let mut names = Vec::new();
        while let Some(entry) = scan.next_entry().expect("whole") {
            names.push(String::from_utf8(entry.name).expect("ASCII"));
        }
        names
    }

    /// Compares a tree with what was archived.
    fn compare(&self, tool: &Tool, tree: &Path) {
        let read = |name: &str| {
            let read = fs::read_to_string(tree.join(name));
            read.unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        for (name, body) in [
            ("glad/mailboxes/d1/1.", "one"),
            ("glad/mailboxes/d1/2.", "two"),
            ("glad/mailboxes/d2/1.", "one"),
            ("glad/mailboxes/d3/1.", "three"),
            ("glad/mailboxes/d4/1.", "four"),
            ("iris@example.org/mailboxes/e1/4294967295.", "else"),
            ("glad/folders/INBOX.b/1.", "one"),
            ("glad/folders/INBOX.a~2/1.", "three"),
            ("glad/folders/INBOX.a~3/1.", "four"),
            ("glad/account/sieve/My%20%C3%A4.script", "keep;\n"),
        ] {
            assert_eq!(read(name), body, "{name}");
        }
        let long = names::escape(self.long.as_bytes());
        assert_eq!(read(&format!("{long}/mailboxes/{}/1.", "f".repeat(150))), "f");
        let link = format!("{long}/folders/INBOX.{}", "x".repeat(120));
        assert_eq!(read(&format!("{link}/1.")), "f");
        assert!(read(&format!("{link}~2/cyrus.index")).starts_with("index of ggg"));
        // Of a file that was written twice, the newer one: it is its segment's first entry.
        assert_eq!(read("iris@example.org/mailboxes/e1/cyrus.index"), "index of e1 at 0");

        let guid = guid_of(b"one").to_string();
        let message = tree.join(format!("glad/messages/{}/{guid}", &guid[..2]));
        let message = fs::metadata(message).expect("the message");
        assert_eq!(message.nlink(), 3, "one file with two more names");
        assert_eq!(message.permissions().mode() & 0o7777, 0o600);
        assert_eq!(message.mtime(), ARRIVED);
        let copy = fs::metadata(tree.join("glad/mailboxes/d2/1.")).expect("the copy");
        assert_eq!((copy.ino(), copy.mtime()), (message.ino(), ARRIVED));
        let dir = fs::metadata(tree.join("glad/mailboxes/d1")).expect("the mailbox");
        // Python's safe way leaves directories to the umask.
        assert!(dir.permissions().mode() & 0o7777 == 0o700 || tool.name == "python3");
        for seq in ["00000001", "00000002", "00000003"] {
            assert!(read(&format!("glad/segments/{seq}.json")).starts_with("{\"format\":1,"));
        }
    }
}

fn compressed(how: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), how, 2);
    writer.write_all(bytes).expect("memory takes it");
    writer.finish().expect("memory takes it")
}

#[test]
fn every_program_lists_every_entry() {
    let archive = Archive::new();
    let names = archive.names();
    for tool in TOOLS.iter().filter(|tool| installed(tool.name)) {
        let dir = tempfile::tempdir().expect("a directory");
        let listed = run(tool.list, dir.path(), &archive.bytes());
        let listed = String::from_utf8(listed).expect("ASCII");
        assert_eq!(listed.lines().collect::<Vec<_>>(), names, "{}", tool.name);
    }
}

#[test]
fn every_program_extracts_the_whole_archive() {
    let archive = Archive::new();
    for tool in TOOLS.iter().filter(|tool| installed(tool.name)) {
        let dir = tempfile::tempdir().expect("a directory");
        run(tool.extract, dir.path(), &archive.bytes());
        archive.compare(tool, dir.path());
    }
}

#[test]
fn every_program_extracts_segment_after_segment() {
    let archive = Archive::new();
    for tool in TOOLS.iter().filter(|tool| installed(tool.name)) {
        let dir = tempfile::tempdir().expect("a directory");
        for segment in &archive.segments {
            run(tool.extract, dir.path(), segment);
        }
        archive.compare(tool, dir.path());
    }
}

#[test]
fn extracting_once_more_over_the_same_tree_changes_nothing() {
    let archive = Archive::new();
    for tool in TOOLS.iter().filter(|tool| installed(tool.name)) {
        let dir = tempfile::tempdir().expect("a directory");
        for _ in 0..2 {
            run(tool.extract, dir.path(), &archive.bytes());
            archive.compare(tool, dir.path());
        }
    }
}

#[test]
fn compressed_archives_are_read_as_they_are() {
    let archive = Archive::new();
    // Compressed as a whole, and in pieces that were put together afterwards.
    for (how, program) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")] {
        let whole = compressed(how, &archive.bytes());
        let pieces: Vec<u8> =
            archive.segments.iter().flat_map(|segment| compressed(how, segment)).collect();
        if !installed(program) {
            continue;
        }
        for file in [whole, pieces] {
            let dir = tempfile::tempdir().expect("a directory");
            let unpack = format!("{program} -dc < \"$0\"");
            let plain = run(&["sh", "-c", &unpack], dir.path(), &file);
            assert!(plain == archive.bytes(), "{program}");
            for tool in TOOLS.iter().filter(|tool| installed(tool.name)) {
                if tool.zstd || how == Compression::Gzip {
                    let dir = tempfile::tempdir().expect("a directory");
                    let gzip = tool.extract_gzip.filter(|_| how == Compression::Gzip);
                    run(gzip.unwrap_or(tool.extract), dir.path(), &file);
                    archive.compare(tool, dir.path());
                }
            }
        }
    }
}

//! What was restored beside what plain tools unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use cyrus_format::index::{Index, RecordKey};
use cyrus_format::{db, expunge};
use model::{Guid, Record, SystemFlags};
use segment::names;
use serde_json::Value;
use sha1::{Digest, Sha1};

use super::{Difference, Report, Restored};

/// Files are compared in pieces of this.
const PIECE: usize = 256 << 10;

/// Compares the account's tree that plain tools unpacked, as of snapshot `seq`, with what was
/// restored, and with itself.
///
/// # Errors
///
/// What the file system says that both trees are in.
pub fn trees(
    root: &Path,
    seq: u32,
    restored: Option<&Restored>,
    report: &mut Report,
) -> io::Result<()> {
    hash_messages(&root.join("messages"), report)?;
    let manifest = match manifest(&root.join(format!("segments/{seq:08}.json"))) {
        Ok(manifest) => manifest,
        Err(error) => {
            report.wrong(format!("the manifest of snapshot {seq} cannot be read: {error}"));
            return Ok(());
        }
    };
    let Some(restored) = restored else { return Ok(()) };
    let mailboxes = list(&manifest["mailboxes"]);
    let there = &restored.account.mailboxes;
    if mailboxes.len() != there.len() || there.len() != restored.dirs.len() {
        let (listed, given) = (mailboxes.len(), restored.dirs.len());
        report.wrong(format!("{given} mailboxes were restored where the manifest lists {listed}"));
        return Ok(());
    }
    for ((listed, mailbox), dir) in mailboxes.iter().zip(there).zip(&restored.dirs) {
        let name = mailbox.name.to_string();
        if names::unquote(text(&listed["name"])).as_deref() != Some(mailbox.name.as_bytes()) {
            report.wrong(format!("{name} was restored where another mailbox should be"));
        }
        let known = restored.findings.iter().filter(|finding| finding.place == name);
        let mut told = BTreeSet::new();
        for finding in known {
            told.extend(finding.uid);
            let (mailbox, uid) = (Some(name.clone()), finding.uid);
            let detail = finding.detail.clone();
            report.differs(Difference { mailbox, uid, guid: None, detail });
        }
        let dir = restored.root.join(dir);
        Mailbox { root, listed, name, dir, told, report }.compare()?;
    }
    account_files(root, &manifest, restored, report)
}

/// Every message has the name that its bytes give it.
fn hash_messages(messages: &Path, report: &mut Report) -> io::Result<()> {
    // An account without messages has no such directory.
    for fan in entries(messages)? {
        for message in entries(&fan)? {
            let name = name_of(&message);
            let found = hash(&message)?.to_string();
            if found != name {
                let detail = format!("the bytes of this message hash to {found}");
                report.differs(Difference { guid: Some(name), detail, ..Difference::default() });
            }
        }
    }
    Ok(())
}

/// The first line of a manifest, which is all but its rows.
fn manifest(path: &Path) -> io::Result<Value> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?).read_until(b'\n', &mut line)?;
    line.extend_from_slice(b"]}");
    Ok(serde_json::from_slice(&line)?)
}

/// One mailbox being compared.
struct Mailbox<'a> {
    root: &'a Path,
    /// What the manifest says of it.
    listed: &'a Value,
    name: String,
    /// Where it was restored.
    dir: PathBuf,
    /// Messages of which something was said already.
    told: BTreeSet<u32>,
    report: &'a mut Report,
}

impl Mailbox<'_> {
    fn compare(mut self) -> io::Result<()> {
        let dir = text(&self.listed["dir"]).to_owned();
        if !is_component(&dir) {
            self.differs(None, None, format!("its directory is called {dir:?}"));
            return Ok(());
        }
        let plain = self.root.join("mailboxes").join(&dir);
        let files: Vec<String> =
            list(&self.listed["files"]).iter().map(|file| text(&file["name"]).to_owned()).collect();
        let mut exceptions = BTreeMap::new();
        let mut bytes_of = BTreeMap::new();
        for file in files {
            let path = match file.as_str() {
                "guids" => {
                    self.root.join("account").join(names::account_path(&format!("guids/{dir}")))
                }
                file if is_component(file) => plain.join(file),
                _ => continue,
            };
            match read(&path)? {
                None => self.differs(None, None, format!("plain tools give no {file}")),
                Some(bytes) if file == "guids" => exceptions = read_exceptions(&bytes),
                Some(bytes) => drop(bytes_of.insert(file, bytes)),
            }
        }
        for (file, bytes) in &bytes_of {
            self.file(file, bytes, &bytes_of)?;
        }
        let records = linked(&bytes_of);
        let mut expected = BTreeSet::new();
        for (uid, record) in &records {
            let recorded = Some(record.guid).filter(|guid| !guid.is_zero());
            match exceptions.get(uid) {
                // It could not be read when the snapshot was taken.
                Some(None) => {}
                Some(Some(found)) => self.message(&plain, *uid, Some(*found), &mut expected)?,
                None => self.message(&plain, *uid, recorded, &mut expected)?,
            }
        }
        for extra in entries(&self.dir)? {
            let name = name_of(&extra);
            let uid = name.strip_suffix('.').and_then(|uid| uid.parse().ok());
            if let Some(uid) = uid.filter(|uid| !expected.contains(uid)) {
                self.differs(Some(uid), None, "it was restored, but no record has it".to_owned());
            }
        }
        Ok(())
    }

    /// A metadata file, which is restored byte for byte but for what the restore says.
    fn file(
        &mut self,
        name: &str,
        plain: &[u8],
        all: &BTreeMap<String, Vec<u8>>,
    ) -> io::Result<()> {
        self.report.files += 1;
        let restored = read(&self.dir.join(name))?;
        let is_same = restored.as_deref().is_some_and(|restored| {
            restored == plain
                || name == "cyrus.index" && differs_in_places(plain, restored)
                || name == "cyrus.expunge" && lacks_live_ones(plain, restored, all)
        });
        if !is_same {
            let what = if restored.is_some() { "is not the same" } else { "was not restored" };
            self.differs(None, None, format!("{name} {what}"));
        }
        Ok(())
    }

    fn message(
        &mut self,
        plain: &Path,
        uid: u32,
        guid: Option<Guid>,
        expected: &mut BTreeSet<u32>,
    ) -> io::Result<()> {
        expected.insert(uid);
        if self.told.contains(&uid) {
            return Ok(());
        }
        let file = format!("{uid}.");
        let link = plain.join(&file);
        let Some(at) = metadata(&link)? else {
            self.differs(Some(uid), guid, "plain tools give no file of it".to_owned());
            return Ok(());
        };
        if let Some(guid) = guid {
            let hex = guid.to_string();
            let message = self.root.join("messages").join(&hex[..2]).join(&hex);
            let is_it = metadata(&message)?.map(|it| (it.dev(), it.ino()));
            if is_it != Some((at.dev(), at.ino())) {
                let detail = "plain tools give another message than its record names";
                self.differs(Some(uid), Some(guid), detail.to_owned());
                return Ok(());
            }
        }
        match same(&link, &self.dir.join(&file))? {
            Same::Yes(bytes) => {
                self.report.messages += 1;
                self.report.bytes += bytes;
            }
            Same::No => self.differs(Some(uid), guid, "other bytes were restored".to_owned()),
            Same::Missing => self.differs(Some(uid), guid, "it was not restored".to_owned()),
        }
        Ok(())
    }

    fn differs(&mut self, uid: Option<u32>, guid: Option<Guid>, detail: String) {
        let (mailbox, guid) = (Some(self.name.clone()), guid.map(|guid| guid.to_string()));
        self.report.differs(Difference { mailbox, uid, guid, detail });
    }
}

/// The records whose messages should be there: those of the index, and what cyrus.expunge has
/// besides.
fn linked(files: &BTreeMap<String, Vec<u8>>) -> BTreeMap<u32, RecordKey> {
    let mut linked = BTreeMap::new();
    for name in ["cyrus.index", "cyrus.expunge"] {
        let Some(Ok(index)) = files.get(name).map(|bytes| Index::parse(bytes)) else { continue };
        for key in index.keys() {
            linked.entry(key.uid.0).or_insert(key);
        }
    }
    linked.retain(|_, key| !key.is_unlinked());
    linked
}

/// Messages whose bytes are not what their record says; `None` if none were to be had.
fn read_exceptions(list: &[u8]) -> BTreeMap<u32, Option<Guid>> {
    let line = |line: &[u8]| {
        let text = std::str::from_utf8(line).ok()?;
        let (uid, guid) = text.split_once(' ')?;
        Some((uid.parse().ok()?, Guid::from_hex(guid.as_bytes())))
    };
    list.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// Whether nothing but where files lie differs: a restored tree has no archive partition.
fn differs_in_places(plain: &[u8], restored: &[u8]) -> bool {
    let (Ok(plain), Ok(restored)) = (Index::parse(plain), Index::parse(restored)) else {
        return false;
    };
    let here = |mut record: Record| {
        record.system_flags.0 &= !SystemFlags::ARCHIVED.0;
        record
    };
    plain.header() == restored.header() && plain.records().map(here).eq(restored.records())
}

/// Whether nothing but records of live messages is left out.
fn lacks_live_ones(plain: &[u8], restored: &[u8], all: &BTreeMap<String, Vec<u8>>) -> bool {
    let (Ok(plain), Ok(restored)) = (expunge::parse(plain), expunge::parse(restored)) else {
        return false;
    };
    let index = all.get("cyrus.index").and_then(|bytes| Index::parse(bytes).ok());
    let live: BTreeSet<_> =
        index.iter().flat_map(|index| index.keys()).map(|key| key.uid).collect();
    let kept = plain.records().filter(|record| !live.contains(&record.uid));
    kept.eq(restored.records())
}

/// The files of the account: each is what was read of it, and restored somewhere; databases that
/// are written anew can be read.
fn account_files(
    root: &Path,
    manifest: &Value,
    restored: &Restored,
    report: &mut Report,
) -> io::Result<()> {
    let listed = list(&manifest["account_files"]);
    let listed: BTreeSet<&str> = listed.iter().map(|file| text(&file["name"])).collect();
    let given: BTreeSet<&str> =
        restored.account.files.iter().map(|file| file.name.as_str()).collect();
    if listed != given {
        report.wrong("the account's files are not those that the manifest lists".to_owned());
    }
    let conf = restored.root.join("conf");
    let mut contents = BTreeSet::new();
    for path in below(&conf)? {
        contents.extend(read(&path)?);
    }
    for file in &restored.account.files {
        report.files += 1;
        let name = &file.name;
        let plain = read(&root.join("account").join(names::account_path(name)))?;
        if plain.as_ref() != Some(&file.bytes) {
            report.wrong(format!("{name} of the account is not the same"));
        }
        let is_copied = ["sub", "seen", "counters"].contains(&name.as_str())
            || ["quota/", "sieve/"].iter().any(|directory| name.starts_with(directory));
        if is_copied && !contents.contains(&file.bytes) {
            report.wrong(format!("{name} of the account was not restored"));
        }
    }
    for name in ["mailboxes.db", "annotations.db"] {
        let bytes = read(&conf.join(name))?;
        if let Some(Err(error)) = bytes.as_deref().map(db::read) {
            report.wrong(format!("{name}, as restored, cannot be read: {error}"));
        }
    }
    Ok(())
}

/// What comparing two files gives.
enum Same {
    Yes(u64),
    No,
    Missing,
}

fn same(one: &Path, other: &Path) -> io::Result<Same> {
    let Some(other) = absent(File::open(other))? else { return Ok(Same::Missing) };
    let one = File::open(one)?;
    let size = one.metadata()?.len();
    if other.metadata()?.len() != size {
        return Ok(Same::No);
    }
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    let mut rest = size;
    while rest > 0 {
        let len = usize::try_from(rest).unwrap_or(PIECE).min(PIECE);
        one.read_exact(&mut left[..len])?;
        other.read_exact(&mut right[..len])?;
        if left[..len] != right[..len] {
            return Ok(Same::No);
        }
        rest -= len as u64;
    }
    Ok(Same::Yes(size))
}

fn hash(path: &Path) -> io::Result<Guid> {
    let mut file = File::open(path)?;
    let (mut sha1, mut piece) = (Sha1::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Guid(sha1.finalize().into())),
            len => sha1.update(&piece[..len]),
        }
    }
}

/// The files and directories in a directory, by name; none where there is no such.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(found) = absent(fs::read_dir(directory))? else { return Ok(Vec::new()) };
    let mut paths = found.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// All files below a directory.
fn below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut todo) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = todo.pop() {
        for path in entries(&directory)? {
            let kind = path.symlink_metadata()?.file_type();
            if kind.is_dir() {
                todo.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
    }
    Ok(files)
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    absent(fs::read(path))
}

fn metadata(path: &Path) -> io::Result<Option<fs::Metadata>> {
    absent(path.symlink_metadata())
}

fn absent<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether it names something in the directory where it is looked for, and nowhere else.
fn is_component(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

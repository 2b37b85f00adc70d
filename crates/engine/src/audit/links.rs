//! Files with more names than records: what nobody's records explain once all accounts were looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use model::{Finding, FindingKind};
use spool::staging::{Inode, Options, Survey, messages_of};
use spool::{Server, SpoolError};

use super::{Place, Shared};

/// So many names are told; the rest is a number.
const NAMES_MAX: usize = 4;

/// Adds up the names that the accounts' records have of files, over all accounts of a server.
#[derive(Debug, Default)]
pub struct Links {
    open: HashMap<Inode, Shared>,
}

impl Links {
    /// Takes what an account could not explain by itself.
    pub fn add(&mut self, shared: &[Shared]) {
        for file in shared {
            let entry =
                self.open.entry(file.inode).or_insert_with(|| Shared { names: 0, ..file.clone() });
            entry.names += file.names;
            // Names come and go: the last look counts.
            entry.links = file.links;
            if entry.names >= entry.links {
                self.open.remove(&file.inode);
            }
        }
    }

    /// Whether all names are explained.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

/// Looks on the disk for the names that no record has, twice, and tells what is so each time.
///
/// # Errors
/// What keeps mailboxes.db from being read, or the processes of the machine from being listed.
pub fn explain(server: &Server, links: &Links) -> Result<Vec<Finding>, SpoolError> {
    let mut suspects: BTreeMap<Inode, Place> =
        links.open.iter().map(|(inode, file)| (*inode, file.place.clone())).collect();
    let mut findings = Vec::new();
    for _ in 0..2 {
        if suspects.is_empty() {
            return Ok(Vec::new());
        }
        let unexplained = look(server, &suspects)?;
        suspects.retain(|inode, _| unexplained.contains_key(inode));
        findings = unexplained
            .iter()
            .filter_map(|(inode, detail)| {
                let place = suspects.get(inode)?;
                let finding = Finding::new(FindingKind::LinksUnexplained, &place.mailbox, detail);
                Some(finding.at_uid(place.uid.0))
            })
            .collect();
    }
    Ok(findings)
}

/// What nothing explains of these files, as they are now.
fn look(
    server: &Server,
    suspects: &BTreeMap<Inode, Place>,
) -> Result<BTreeMap<Inode, String>, SpoolError> {
    let wanted: BTreeSet<Inode> = suspects.keys().copied().collect();
    let options = Options { older_than: Duration::ZERO };
    let survey = Survey::take(server.conf(), options)?;
    let names = messages_of(server.conf(), &wanted);
    let dirs = server.mailbox_dirs()?;
    let mut unexplained = BTreeMap::new();
    for (inode, place) in suspects {
        let Ok(file) = server.open_message(&place.mailbox, place.uid) else { continue };
        let Ok(now) = file.metadata() else { continue };
        if (now.dev(), now.ino()) != *inode {
            continue;
        }
        let links = now.nlink();
        let all = names.get(inode).map(Vec::as_slice).unwrap_or_default();
        let (own, strange): (Vec<&PathBuf>, Vec<&PathBuf>) =
            all.iter().partition(|path| path.parent().is_some_and(|parent| dirs.contains(parent)));
        let waiting: Vec<(PathBuf, bool)> = staged(&survey, *inode);
        // What lives removes its names by itself.
        let alive = waiting.iter().filter(|(_, is_gone)| !is_gone).count();
        let explained = (own.len() + alive) as u64;
        if explained >= links {
            continue;
        }
        let mut others: Vec<String> =
            strange.iter().map(|path| path.display().to_string()).collect();
        let gone = waiting.iter().filter(|(_, is_gone)| *is_gone);
        others.extend(gone.map(|(path, _)| path.display().to_string()));
        unexplained.insert(*inode, detail(links, own.len(), others));
    }
    Ok(unexplained)
}

/// The names that a file has where messages wait, and whether the process is gone that left them.
fn staged(survey: &Survey, inode: Inode) -> Vec<(PathBuf, bool)> {
    let groups = survey.groups.iter();
    let files = groups.flat_map(|group| group.files.iter().map(move |file| (group, file)));
    let same = files.filter(|(_, file)| file.inode == inode);
    same.map(|(group, file)| (group.directory.join(&file.name), group.maker.is_gone())).collect()
}

fn detail(links: u64, own: usize, mut others: Vec<String>) -> String {
    let unknown = links.saturating_sub((own + others.len()) as u64);
    let more = others.len().saturating_sub(NAMES_MAX);
    others.truncate(NAMES_MAX);
    if more > 0 {
        others.push(format!("{more} more there"));
    }
    if unknown > 0 {
        others.push(format!("{unknown} that no partition has"));
    }
    format!("its file has {links} names, {own} of them in mailboxes; others: {}", others.join(", "))
}

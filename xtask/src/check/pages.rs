//! Rules about the pages in Markdown: links lead somewhere, decisions are listed.

use std::path::{Component, Path, PathBuf};

use super::Breach;
use crate::workspace::TextFile;

/// Where the decisions are, and the page that lists them.
const DECISIONS: &str = "docs/decisions/";
const DECISIONS_INDEX: &str = "docs/decisions/README.md";

/// Checks all pages of the workspace at `root`.
pub fn check(files: &[TextFile], root: &Path) -> Vec<Breach> {
    let pages: Vec<&TextFile> = files.iter().filter(|file| file.extension() == "md").collect();
    let exists = |path: &str| root.join(path).exists();
    let mut breaches: Vec<Breach> =
        pages.iter().flat_map(|page| dead_links(page, &pages, &exists)).collect();
    breaches.extend(unlisted_decisions(&pages));
    breaches
}

/// Links within the workspace that lead nowhere.
fn dead_links(page: &TextFile, pages: &[&TextFile], exists: &dyn Fn(&str) -> bool) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for Link { line, target } in links(&page.text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let path = if file.is_empty() { Some(page.path.clone()) } else { beside(page, file) };
        let leads = match path {
            None => false,
            Some(path) => match pages.iter().find(|other| other.path == path) {
                Some(other) => anchor.is_empty() || anchors(&other.text).any(|a| a == anchor),
                None => exists(&path),
            },
        };
        if !leads {
            let remedy = "mend the link, or write the page; links stay within the workspace";
            breaches.push(Breach::new(&page.path, "dead-link", &target, remedy).at_line(line));
        }
    }
    breaches
}

/// The path of `file` as seen from `page`; `None` if it leaves the workspace.
fn beside(page: &TextFile, file: &str) -> Option<String> {
    let mut path = PathBuf::from(&page.path);
    path.pop();
    for part in Path::new(file).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    path.into_os_string().into_string().ok()
}

struct Link {
    line: usize,
    target: String,
}

/// The targets of `[text](target)`, outside of code.
fn links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (line, prose) in prose_lines(text) {
        // Code in a line stands between backquotes: every second piece.
        let prose: Vec<&str> = prose.split('`').step_by(2).collect();
        for piece in prose.join("code").split("](").skip(1) {
            if let Some((target, _)) = piece.split_once(')') {
                links.push(Link { line, target: target.to_string() });
            }
        }
    }
    links
}

/// Lines outside of fenced and indented code, with their numbers.
fn prose_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence && !line.starts_with("    ")
    })
}

/// What a heading can be linked by: lower case, hyphens for blanks, no punctuation.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = prose_lines(text).filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then_some(title)
    });
    headings.map(|title| {
        let title = title.trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    })
}

/// Decisions that their index does not link to.
fn unlisted_decisions(pages: &[&TextFile]) -> Vec<Breach> {
    let index = pages.iter().find(|page| page.path == DECISIONS_INDEX);
    let listed = index.map(|page| links(&page.text)).unwrap_or_default();
    let decisions = pages.iter().filter_map(|page| {
        let name = page.path.strip_prefix(DECISIONS)?;
        (page.path != DECISIONS_INDEX).then_some((page, name))
    });
    let unlisted = decisions.filter(|(_, name)| !listed.iter().any(|link| link.target == **name));
    let remedy = "list it in docs/decisions/README.md, with one line on what was decided";
    unlisted
        .map(|(page, _)| Breach::new(&page.path, "decisions", "not in the index", remedy))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(path: &str, text: &str) -> TextFile {
        TextFile { path: path.to_string(), text: text.to_string() }
    }

    /// Targets of dead links, in a workspace of `pages` and a LICENSE.
    fn dead(pages: &[TextFile]) -> Vec<String> {
        let all: Vec<&TextFile> = pages.iter().collect();
        let exists = |path: &str| path == "LICENSE";
        let breaches = all.iter().flat_map(|page| dead_links(page, &all, &exists));
        breaches.map(|breach| breach.found).collect()
    }

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        let pages = [
            page(
                "README.md",
                "[a](docs/a.md) [b](docs/a.md#why-not-c) [l](./LICENSE) [m](#me)\n# Me",
            ),
            page("docs/a.md", "## Why *not* `C`?\n[up](../README.md) [out](https://example.org/)"),
        ];
        assert!(dead(&pages).is_empty(), "{:?}", dead(&pages));
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let text = "[a](b.md) [b](#c) [c](../x) [d](/etc) [e](a.md#no)\n";
        let pages = [page("docs/a.md", text), page("docs/c.md", "[x](../LICENCE)")];
        assert_eq!(dead(&pages), ["b.md", "#c", "../x", "/etc", "a.md#no", "../LICENCE"]);
    }

    #[test]
    fn links_in_code_are_not_followed() {
        let text = "`[a](b)`\n```\n[a](c)\n```\n    [a](d)\nx `y` [a](e) `z`\n";
        let targets: Vec<String> = links(text).into_iter().map(|link| link.target).collect();
        assert_eq!(targets, ["e"]);
    }

    #[test]
    fn every_decision_is_listed() {
        let index = page(DECISIONS_INDEX, "- [0001](0001-a.md)");
        let first = page("docs/decisions/0001-a.md", "# A");
        let second = page("docs/decisions/0002-b.md", "# B");
        assert!(unlisted_decisions(&[&index, &first]).is_empty());
        let breaches = unlisted_decisions(&[&index, &first, &second]);
        assert_eq!(breaches.len(), 1);
        assert_eq!(breaches[0].place, "docs/decisions/0002-b.md");
    }
}

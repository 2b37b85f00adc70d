//! `cargo xtask check`: the house rules, held by a program instead of by memory.
//!
//! Each rule is a function from what it looks at to breaches, so that its tests need no workspace.
//! The last test of this module runs all of them here, so plain `cargo test` holds the house too.

mod arrows;
mod code;
mod pages;
mod source;

use std::fmt;
use std::path::Path;

use crate::process::{cargo, output};
use crate::workspace::{self, TextFile};
use crate::{Failure, no_arguments};

/// Something that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The file, and the line where there is one: `path:12`.
    place: String,
    /// The rule's name.
    rule: &'static str,
    /// What was found.
    found: String,
    /// What to do instead.
    remedy: &'static str,
    /// Whether it only deserves a thought: such a breach is shown, and fails nothing.
    advice: bool,
}

impl Breach {
    /// A breach that fails the check.
    fn new(
        place: impl fmt::Display,
        rule: &'static str,
        found: impl fmt::Display,
        remedy: &'static str,
    ) -> Self {
        Self { place: place.to_string(), rule, found: found.to_string(), remedy, advice: false }
    }

    /// The same breach in a certain line of its file.
    fn at_line(mut self, line: usize) -> Self {
        self.place = format!("{}:{line}", self.place);
        self
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.advice { "advice" } else { "breach" };
        writeln!(f, "{kind} [{}] {}: {}", self.rule, self.place, self.found)?;
        write!(f, "    remedy: {}", self.remedy)
    }
}

/// The command.
pub fn run(args: &[String]) -> Result<(), Failure> {
    no_arguments(args)?;
    Ok(workspace()?)
}

/// Checks this workspace: prints every breach, and fails if there is one that is not just advice.
pub fn workspace() -> Result<(), String> {
    let breaches = breaches(workspace::root())?;
    for breach in &breaches {
        eprintln!("{breach}");
    }
    match breaches.iter().filter(|breach| !breach.advice).count() {
        0 => Ok(()),
        count => Err(format!("{count} breaches of the house rules")),
    }
}

/// Everything below `root` that breaks a rule.
fn breaches(root: &Path) -> Result<Vec<Breach>, String> {
    let mut command = cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let metadata = serde_json::from_str(&output(command.current_dir(root))?)
        .map_err(|e| format!("read cargo's metadata: {e}"))?;
    let files = workspace::text_files(root)?;
    let mut breaches = arrows::check(&metadata);
    breaches.extend(files.iter().filter(|file| file.extension() == "rs").flat_map(code::check));
    breaches.extend(pages::check(&files, root));
    breaches.extend(files.iter().flat_map(registry_hosts));
    Ok(breaches)
}

/// Hosts of package registries, split so that this table does not break its own rule.
const REGISTRIES: &[(&str, &str)] = &[
    ("crates", ".io"),
    ("debian", ".org"),
    ("golang", ".org"),
    ("npmjs", ".com"),
    ("npmjs", ".org"),
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
];

/// Where packages come from is the client's configuration, which may name a mirror.
fn registry_hosts(file: &TextFile) -> Vec<Breach> {
    let remedy = "name the package and its client; the client knows where to fetch it";
    let mut breaches = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for (name, domain) in REGISTRIES {
            let host = format!("{name}{domain}");
            if line.contains(&host) {
                breaches
                    .push(Breach::new(&file.path, "registry-host", host, remedy).at_line(number));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_named_by_its_client_only() {
        let page = |text: &str| TextFile { path: "a.md".to_string(), text: text.to_string() };
        assert!(registry_hosts(&page("`npm pack` fetches it.")).is_empty());
        let url = format!("curl https://registry.{}{}/x", "npmjs", ".org");
        let breaches = registry_hosts(&page(&format!("\n{url}\n")));
        assert_eq!(breaches.len(), 1);
        assert_eq!(breaches[0].place, "a.md:2");
    }

    #[test]
    fn this_workspace_keeps_the_house_rules() {
        let breaches = breaches(workspace::root()).expect("the rules can be checked");
        let binding: Vec<String> =
            breaches.iter().filter(|breach| !breach.advice).map(Breach::to_string).collect();
        assert!(binding.is_empty(), "\n{}\n", binding.join("\n"));
    }
}

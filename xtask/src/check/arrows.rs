//! Which crate may depend on which: arrows point down only.

use serde_json::Value;

use super::Breach;

/// The crates of the product from top to bottom: each may use those below it and none above.
const ROWS: &[&str] = &[
    "cli",
    "serve",
    "engine",
    "spool",
    "vault",
    "peer",
    "logwatch",
    "segment",
    "csync",
    "cyrus-format",
    "model",
];

/// What only tests and the workspace's own commands may use.
const FOR_TESTS: &[&str] = &["testkit"];

/// What nothing may use: programs of the workspace that are no part of the product.
const TOOLS: &[&str] = &["xtask"];

/// Bytes and values in, bytes and values out: see also the rule `pure` on their sources.
pub const PURE: &[&str] = &["model", "cyrus-format", "csync", "segment", "logwatch"];

/// Packages that reach what a pure crate must not: files, sockets, clocks, chance.
const IMPURE: &[&str] = &[
    "chrono",
    "fastrand",
    "getrandom",
    "jiff",
    "libc",
    "nix",
    "object_store",
    "rand",
    "rustix",
    "tempfile",
    "tokio",
];

/// Checks the dependencies that `cargo metadata --no-deps` lists.
pub fn check(metadata: &Value) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for package in list(&metadata["packages"]) {
        let from = text(&package["name"]);
        if !is_ours(from) {
            let remedy = "give it a row in xtask/src/check/arrows.rs, with a decision record";
            breaches.push(Breach::new(manifest(from), "arrows", "a crate without a row", remedy));
        }
        for dependency in list(&package["dependencies"]) {
            let to = text(&dependency["name"]);
            let dev = dependency["kind"] == "dev";
            breaches.extend(judge(from, to, dev));
        }
    }
    breaches
}

/// Judges one arrow.
fn judge(from: &str, to: &str, dev: bool) -> Option<Breach> {
    let arrow = format!("{from} -> {to}{}", if dev { " (for tests)" } else { "" });
    if PURE.contains(&from) && !dev && IMPURE.contains(&to) {
        let remedy = "take what it gives as an argument; fetching it is an adapter's work";
        return Some(Breach::new(manifest(from), "pure", arrow, remedy));
    }
    if !is_ours(to) || FOR_TESTS.contains(&from) && !TOOLS.contains(&to) {
        return None;
    }
    let allowed = match (row(from), row(to)) {
        (Some(from), Some(to)) => from < to,
        (_, None) => FOR_TESTS.contains(&to) && (dev || TOOLS.contains(&from)),
        (None, Some(_)) => TOOLS.contains(&from),
    };
    let remedy = "move the code to the lower of the two, or let the higher hand it down as a value";
    (!allowed).then(|| Breach::new(manifest(from), "arrows", arrow, remedy))
}

fn row(name: &str) -> Option<usize> {
    ROWS.iter().position(|row| *row == name)
}

fn is_ours(name: &str) -> bool {
    row(name).is_some() || FOR_TESTS.contains(&name) || TOOLS.contains(&name)
}

fn manifest(name: &str) -> String {
    let dir = if TOOLS.contains(&name) { "" } else { "crates/" };
    format!("{dir}{name}/Cargo.toml")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arrows_that_point_down_are_allowed() {
        for (from, to, dev) in [
            ("cli", "engine", false),
            ("cli", "model", false),
            ("engine", "spool", false),
            ("segment", "model", false),
            ("csync", "cyrus-format", false),
            ("spool", "testkit", true),
            ("testkit", "engine", false),
            ("xtask", "testkit", false),
            ("xtask", "segment", false),
            ("model", "crc32fast", false),
            ("model", "tempfile", true),
        ] {
            assert_eq!(judge(from, to, dev), None, "{from} -> {to}");
        }
    }

    #[test]
    fn arrows_that_point_up_or_aside_are_not() {
        for (from, to, dev) in [
            ("model", "cyrus-format", false),
            ("cyrus-format", "csync", false),
            ("csync", "tokio", false),
            ("spool", "engine", false),
            ("spool", "engine", true),
            ("engine", "testkit", false),
            ("cli", "xtask", false),
            ("testkit", "xtask", false),
            ("segment", "rustix", false),
            ("model", "model", true),
        ] {
            let breach = judge(from, to, dev).expect("a breach");
            assert!(breach.place.ends_with("Cargo.toml"), "{breach}");
        }
    }

    #[test]
    fn a_crate_without_a_row_is_named() {
        let metadata = json!({"packages": [
            {"name": "model", "dependencies": [{"name": "thiserror", "kind": null}]},
            {"name": "helpers", "dependencies": []},
        ]});
        let breaches = check(&metadata);
        assert_eq!(breaches.len(), 1);
        assert_eq!(breaches[0].place, "crates/helpers/Cargo.toml");
    }

    #[test]
    fn breaches_are_found_in_what_cargo_prints() {
        let metadata = json!({"packages": [
            {"name": "spool", "dependencies": [
                {"name": "engine", "kind": null},
                {"name": "testkit", "kind": "dev"},
            ]},
        ]});
        let breaches = check(&metadata);
        assert_eq!(breaches.len(), 1);
        assert_eq!(breaches[0].found, "spool -> engine");
    }
}

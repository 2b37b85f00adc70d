//! Rules about Rust sources.

use super::Breach;
use super::arrows::PURE;
use super::source::{Source, body, words};
use crate::workspace::TextFile;

/// From here on, a file deserves the question whether it holds two things.
const FILE_LINES_ADVISED: usize = 600;

/// Beyond this, it does.
const FILE_LINES_MAX: usize = 700;

/// One screen, and a little.
const FUNCTION_LINES_MAX: usize = 70;

/// Modules of `std` that reach beyond bytes and values.
const OUTSIDE: &[&str] = &["env", "fs", "net", "process"];

/// The same for single functions, and for the names of random sources.
const OUTSIDE_CALLS: &[&str] = &["SystemTime::now", "Instant::now", "thread_rng", "RandomState"];

/// Words of a comment that promise work for later.
const PROMISES: &[&str] = &["TODO", "FIXME", "XXX"];

/// Checks one source file against every rule.
pub fn check(file: &TextFile) -> Vec<Breach> {
    let source = Source::new(file);
    let rules: [fn(&Source<'_>) -> Vec<Breach>; 7] =
        [file_length, function_length, ignored_tests, promises, unsafe_code, ascii, pure];
    rules.iter().flat_map(|rule| rule(&source)).collect()
}

fn file_length(source: &Source<'_>) -> Vec<Breach> {
    let lines = source.text.lines().count();
    if lines <= FILE_LINES_ADVISED {
        return Vec::new();
    }
    let remedy = "cut it along the next noun, or move its tests to a file of their own";
    let mut breach = Breach::new(source.path, "file-length", format!("{lines} lines"), remedy);
    breach.advice = lines <= FILE_LINES_MAX;
    vec![breach]
}

fn function_length(source: &Source<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for start in words(&source.code, "fn") {
        let item = &source.code[start..];
        let name: String = item[2..].trim_start().chars().take_while(is_name).collect();
        let Some(body) = body(item).filter(|_| !name.is_empty()) else { continue };
        let lines = item[..body.end].lines().count();
        if lines > FUNCTION_LINES_MAX {
            let found = format!("`{name}` has {lines} lines, {FUNCTION_LINES_MAX} are allowed");
            let remedy =
                "name its steps and make each a function; keep the branching in the caller";
            breaches.push(
                Breach::new(source.path, "function-length", found, remedy)
                    .at_line(source.line_of(start)),
            );
        }
    }
    breaches
}

fn is_name(c: &char) -> bool {
    c.is_ascii_alphanumeric() || *c == '_'
}

fn ignored_tests(source: &Source<'_>) -> Vec<Breach> {
    let remedy = "make it pass, make it fast, or remove it";
    let places = source.code.match_indices("#[ignore").map(|(at, _)| at);
    at_each(source, places, "ignored-test", "a test that nobody runs", remedy)
}

fn promises(source: &Source<'_>) -> Vec<Breach> {
    let remedy = "do it now, or say in the comment what is the case and why";
    let places = PROMISES.iter().flat_map(|word| words(&source.comments, word));
    at_each(source, places, "promise", "a comment that promises work", remedy)
}

fn unsafe_code(source: &Source<'_>) -> Vec<Breach> {
    let remedy = "rustix and std have safe ways to every system call that is needed";
    at_each(source, words(&source.code, "unsafe"), "unsafe", "unsafe code", remedy)
}

fn ascii(source: &Source<'_>) -> Vec<Breach> {
    if source.is_test_file() {
        return Vec::new();
    }
    let tests = source.test_items();
    let foreign = source.text.char_indices().filter(|(_, c)| !c.is_ascii());
    let places = foreign.map(|(at, _)| at).filter(|at| !tests.iter().any(|t| t.contains(at)));
    let remedy = "say it in ASCII, or write an escape: what is seen is what is compiled";
    at_each(source, places, "ascii", "a character beyond ASCII", remedy)
}

/// Pure crates take slices and values and return values.
fn pure(source: &Source<'_>) -> Vec<Breach> {
    let ours = PURE.iter().any(|name| source.path.starts_with(&format!("crates/{name}/src/")));
    if !ours || source.is_test_file() {
        return Vec::new();
    }
    let tests = source.test_items();
    let calls = OUTSIDE_CALLS.iter().flat_map(|call| words(&source.code, call));
    let places = calls.chain(outside_modules(&source.code));
    let places = places.filter(|at| !tests.iter().any(|test| test.contains(at)));
    let remedy = "take it as an argument; files, sockets, clocks and chance are an adapter's work";
    at_each(source, places, "pure", "a pure crate reaches outside", remedy)
}

/// Paths such as `std::fs`, and the modules named by a `use std::{...};`.
fn outside_modules(code: &str) -> Vec<usize> {
    let mut places = Vec::new();
    for start in words(code, "std") {
        let rest = &code[start..];
        if rest.starts_with("std::{") {
            let end = rest.find(';').unwrap_or(rest.len());
            for module in OUTSIDE {
                places.extend(words(&rest[..end], module).map(|at| start + at));
            }
        } else if let Some(path) = rest.strip_prefix("std::") {
            let module: String = path.chars().take_while(is_name).collect();
            places.extend(OUTSIDE.contains(&module.as_str()).then_some(start));
        }
    }
    places
}

/// A breach per place, but only one per line.
fn at_each(
    source: &Source<'_>,
    places: impl IntoIterator<Item = usize>,
    rule: &'static str,
    found: &'static str,
    remedy: &'static str,
) -> Vec<Breach> {
    let mut lines: Vec<usize> = places.into_iter().map(|at| source.line_of(at)).collect();
    lines.sort_unstable();
    lines.dedup();
    let breach = |line| Breach::new(source.path, rule, found, remedy).at_line(line);
    lines.into_iter().map(breach).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules that a source breaks, each with its line.
    fn broken(path: &str, text: &str) -> Vec<String> {
        let file = TextFile { path: path.to_string(), text: text.to_string() };
        let breaches = check(&file).into_iter();
        breaches.map(|b| format!("{}{}", b.rule, b.place.replacen(path, "", 1))).collect()
    }

    fn function_of(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
    }

    #[test]
    fn a_file_of_600_lines_is_fine_and_one_of_701_is_not() {
        assert!(broken("a.rs", &"//\n".repeat(600)).is_empty());
        assert_eq!(broken("a.rs", &"//\n".repeat(701)), ["file-length"]);
        let file = TextFile { path: "a.rs".to_string(), text: "//\n".repeat(650) };
        assert!(check(&file).iter().all(|breach| breach.advice));
    }

    #[test]
    fn a_function_of_70_lines_is_fine_and_one_of_71_is_not() {
        assert!(broken("a.rs", &function_of(70)).is_empty());
        assert_eq!(broken("a.rs", &format!("\n{}", function_of(71))), ["function-length:2"]);
    }

    #[test]
    fn types_and_declarations_are_no_functions() {
        let tail = "    //\n".repeat(90);
        let text = format!("type F = fn(u8);\ntrait T {{\n fn f(a: [u8; 2]);\n{tail}}}\n");
        assert!(broken("a.rs", &text).is_empty());
    }

    #[test]
    fn an_ignored_test_is_found() {
        assert_eq!(broken("a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"), ["ignored-test:2"]);
        assert!(broken("a.rs", "// #[ignore]\nlet x = \"#[ignore]\";").is_empty());
    }

    #[test]
    fn promises_are_found_in_comments_only() {
        let word = ["TO", "DO"].concat();
        assert_eq!(broken("a.rs", &format!("f();\n// {word}: later")), ["promise:2"]);
        assert!(broken("a.rs", &format!("let {word} = \"{word}\";")).is_empty());
    }

    #[test]
    fn unsafe_code_is_found() {
        assert_eq!(broken("a.rs", "unsafe { f() }"), ["unsafe:1"]);
        assert!(broken("a.rs", "#![forbid(unsafe_code)] // not unsafe").is_empty());
    }

    #[test]
    fn characters_beyond_ascii_are_for_tests() {
        assert_eq!(broken("crates/x/src/a.rs", "// \u{e9}"), ["ascii:1"]);
        assert!(broken("crates/x/tests/a.rs", "// \u{e9}").is_empty());
        assert!(broken("a.rs", "#[cfg(test)]\nmod tests { /* \u{e9} */ }").is_empty());
    }

    #[test]
    fn pure_crates_do_not_reach_outside() {
        let path = "crates/model/src/a.rs";
        for text in [
            "use std::fs::File;",
            "use std::{io, fs};",
            "use std::{\n    fmt, net::{IpAddr, TcpStream}};",
            "let home = std::env::var(\"HOME\");",
            "let now = std::time::Instant::now();",
            "let map = HashMap::with_hasher(RandomState::new());",
        ] {
            assert_eq!(broken(path, text).len(), 1, "{text}");
            assert!(broken("crates/spool/src/a.rs", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn pure_crates_may_speak_of_files_and_test_with_them() {
        let path = "crates/model/src/a.rs";
        for text in [
            "//! Unlike std::fs, this reads nothing.",
            "use std::{fmt, io::Read};",
            "mod fs; let env = fs::of(\"std::fs\");",
            "let version = env!(\"CARGO_PKG_VERSION\");",
            "#[cfg(test)]\nmod tests { use std::fs; }",
        ] {
            assert!(broken(path, text).is_empty(), "{text}");
        }
        assert!(broken("crates/model/tests/a.rs", "use std::fs;").is_empty());
    }
}

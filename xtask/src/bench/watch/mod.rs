//! `cargo xtask bench watch`: how fast `cylinder watch` reads everyday lines, beside `grep -c` and what
//! logcheck does with the same file, and how much memory it takes after many.

mod latency;
mod page;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::computer::Computer;
use super::sample::{Sample, Series, Words};
use super::workbench::Workbench;
use crate::{Failure, process, words, workspace};

/// What the results are written to.
const PAGE: &str = "docs/benchmarks-watch.md";

/// How the options are called.
const ARGUMENTS: &str = "watch [--quick] [--write]";

/// What was everyday for a real Cyrus.
const EVERYDAY: &str = "crates/logwatch/tests/data/everyday.zst";

/// Where Debian's logcheck has the rules for what it passes over on a server.
const RULES: [&str; 2] = ["/etc/logcheck/ignore.d.paranoid", "/etc/logcheck/ignore.d.server"];

/// What logcheck does with a log, one file of rules after the other: its `cleanchecked`.
const LOGCHECK: &str = r#"cp "$1" "$2/checked"
for rules in "$2"/rules/*; do
    grep -E --text -v -f "$rules" "$2/checked" > "$2/next"
    mv "$2/next" "$2/checked"
done"#;

/// Passes on a 3, which is what noises are told by, as success.
const NOISES: &str = r#""$@"; test $? -eq 3"#;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    /// Lines of the race.
    lines: u64,
    /// Lines of the log that memory is measured with, and of the one that is all strange.
    many: u64,
    strange: u64,
    repeat: usize,
    write: bool,
    /// What was typed.
    typed: String,
}

/// What came out.
#[derive(Debug, Default)]
struct Results {
    /// Lines and bytes of the race.
    lines: u64,
    bytes: u64,
    ours: Series,
    grep: Series,
    /// Nothing where logcheck is not installed.
    logcheck: Series,
    many: Measured,
    strange: Measured,
    /// From a line to its noise.
    latency: Vec<Duration>,
}

/// A run, and its number of lines.
#[derive(Debug, Default)]
struct Measured {
    lines: u64,
    run: Series,
}

/// The command.
pub fn run(args: &[String]) -> Result<(), Failure> {
    let options = Options::parse(args)?;
    let bench = Workbench::set_up()?;
    let computer = describe(&bench)?;
    let results = measure(&bench, &options)?;
    bench.clear()?;
    let page = page::render(&options, &computer, &results);
    super::publish(&page, options.write.then_some(PAGE))
}

/// The machine, with the programs that take part here.
fn describe(bench: &Workbench) -> Result<Computer, String> {
    let mut computer = Computer::describe(&bench.root, &bench.cylinder)?;
    computer.versions.truncate(1);
    let grep = process::output(Command::new("grep").arg("--version"))?;
    computer.versions.extend(grep.lines().next().map(String::from));
    computer.missing.clear();
    if !has_logcheck() {
        computer.missing.push(("logcheck", "logcheck"));
    }
    Ok(computer)
}

fn has_logcheck() -> bool {
    RULES.iter().all(|directory| Path::new(directory).is_dir())
}

fn measure(bench: &Workbench, options: &Options) -> Result<Results, String> {
    let mut results = Results::default();
    let log = Log::write(bench, options.lines, "log")?;
    results.lines = log.lines;
    results.bytes = fs::metadata(&log.watched).map_or(0, |found| found.len());
    if has_logcheck() {
        clean_rules(&bench.root.join("rules"))?;
    }
    for round in 0..options.repeat {
        eprintln!("Round {} of {}", round + 1, options.repeat);
        results.ours.0.push(log.replay(bench)?);
        let grep = words!["env", "LC_ALL=C", "grep", "-c", "cyrus/imap", log.watched, "|", "wc"];
        results.grep.0.push(bench.meter.run(&grep)?);
    }
    // What takes minutes need not be taken for a mistake of the clock.
    if has_logcheck() {
        let words = ["env", "LC_ALL=C", "sh", "-c", LOGCHECK, "sh", &log.watched];
        let mut words: Words = words.map(String::from).into();
        words.push(bench.root.display().to_string());
        results.logcheck.0.push(bench.meter.run(&words)?);
    }
    let many = Log::write(bench, options.many, "many.zst")?;
    results.many = Measured { lines: many.lines, run: Series(vec![many.replay(bench)?]) };
    results.strange = strange(bench, options.strange, &log.state)?;
    results.latency = latency::measure(&bench.root, &bench.cylinder, options.repeat)?;
    Ok(results)
}

/// A log of which nothing was ever seen before.
fn strange(bench: &Workbench, lines: u64, state: &str) -> Result<Measured, String> {
    let path = bench.root.join("strange").display().to_string();
    let lines = write(bench, lines, "strange", &path)?;
    let watch = ["sh", "-c", NOISES, "sh", &bench.cylinder, "watch", "--state", state];
    let mut watch: Words = watch.map(String::from).into();
    watch.extend(words!["--replay", path]);
    Ok(Measured { lines, run: Series(vec![bench.meter.run(&watch)?]) })
}

/// A week, and a state that has learned the week before.
struct Log {
    lines: u64,
    watched: String,
    state: String,
}

impl Log {
    fn write(bench: &Workbench, lines: u64, name: &str) -> Result<Self, String> {
        let at = |prefix: &str| bench.root.join(format!("{prefix}{name}")).display().to_string();
        let (watched, learned, state) = (at(""), at("learned-"), at("state-"));
        write(bench, lines, "learned", &learned)?;
        let lines = write(bench, lines, "watched", &watched)?;
        let mut learn = Command::new(&bench.cylinder);
        learn.args(["watch", "--state", &state, "--learn", &learned]);
        process::run(&mut learn)?;
        fs::remove_file(&learned).map_err(|e| format!("remove {learned}: {e}"))?;
        Ok(Self { lines, watched, state })
    }

    /// Fails if anything makes a noise.
    fn replay(&self, bench: &Workbench) -> Result<Sample, String> {
        let (state, log) = (&self.state, &self.watched);
        bench.meter.run(&words![bench.cylinder, "watch", "--state", state, "--replay", log])
    }
}

/// Writes a log, and says how many lines it has.
fn write(bench: &Workbench, lines: u64, what: &str, path: &str) -> Result<u64, String> {
    eprintln!("Writing {lines} lines that are {what}");
    let mut command = Command::new(bench.program("bench-log"));
    command.arg(workspace::root().join(EVERYDAY)).args([&lines.to_string(), what, path]);
    let text = process::output(&mut command)?;
    text.trim().parse().map_err(|e| format!("read the answer of bench-log: {e}"))
}

/// Makes of logcheck's rules what it makes of them itself: without comments and empty lines.
fn clean_rules(target: &Path) -> Result<(), String> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("copy the rules of {path}: {e}")
    };
    fs::create_dir(target).map_err(failed(target))?;
    for directory in RULES {
        let directory = Path::new(directory);
        for entry in fs::read_dir(directory).map_err(failed(directory))?.flatten() {
            // Rules of other times are not all UTF-8.
            let bytes = fs::read(entry.path()).map_err(failed(&entry.path()))?;
            let rules = bytes.split(|byte| *byte == b'\n').filter(|rule| is_rule(rule));
            let mut text = fs::read(target.join(entry.file_name())).unwrap_or_default();
            text.extend(rules.flat_map(|rule| [rule, b"\n"].concat()));
            // No rule at all would be one that matches nothing, and takes its time.
            if !text.is_empty() {
                fs::write(target.join(entry.file_name()), text).map_err(failed(target))?;
            }
        }
    }
    Ok(())
}

fn is_rule(line: &[u8]) -> bool {
    !line.starts_with(b"#") && !line.trim_ascii().is_empty()
}

impl Options {
    /// Reads the arguments behind `bench watch`.
    fn parse(args: &[String]) -> Result<Self, Failure> {
        let quick = args.iter().any(|arg| arg == "--quick");
        let typed = format!("cargo xtask bench watch {}", args.join(" ")).trim_end().to_owned();
        let mut options = match quick {
            true => Self::of(100_000, 1_000_000, 100_000, 3),
            false => Self::of(2_000_000, 100_000_000, 5_000_000, 5),
        };
        options.typed = typed;
        for arg in args {
            match arg.as_str() {
                "--quick" => {}
                "--write" => options.write = true,
                _ => return Err(Failure::Usage(format!("bench {ARGUMENTS}"))),
            }
        }
        Ok(options)
    }

    fn of(lines: u64, many: u64, strange: u64, repeat: usize) -> Self {
        Self { lines, many, strange, repeat, write: false, typed: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Options> {
        Options::parse(&crate::bench::words(line)).ok()
    }

    #[test]
    fn what_can_be_typed_is_little() {
        let all = parse("--write").expect("understood");
        assert_eq!((all.many, all.write), (100_000_000, true));
        let quick = parse("--quick").expect("understood");
        assert_eq!((quick.many, quick.write), (1_000_000, false));
        assert_eq!(quick.typed, "cargo xtask bench watch --quick");
        assert_eq!(parse("--slow"), None);
    }

    #[test]
    fn comments_are_no_rules() {
        assert!(is_rule(b"^a$") && !is_rule(b"# a") && !is_rule(b" \t") && !is_rule(b""));
    }
}

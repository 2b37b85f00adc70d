//! Where all of this ran.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::race;
use crate::process;

/// The machine and the programs on it.
#[derive(Debug)]
pub struct Computer {
    /// Processors.
    pub processors: String,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The type of the file system that the spools are on.
    pub file_system: String,
    /// What else ran when it began: the load of the last minute.
    pub load: String,
    /// The date, in UTC.
    pub date: String,
    /// What each program says of its version.
    pub versions: Vec<String>,
    /// Programs that are not here, with the Debian packages that have them.
    pub missing: Vec<(&'static str, &'static str)>,
}

/// How each program tells its version.
const VERSIONS: &[(&str, &str)] = &[
    ("tar", "--version"),
    ("zstd", "--version"),
    ("restic", "version"),
    ("borg", "--version"),
    ("rsync", "--version"),
];

impl Computer {
    /// Looks around; `place` is where the benchmarks are to run.
    pub fn describe(place: &Path, cylinder: &str) -> Result<Self, String> {
        let first_line = |program: &str, arguments: &str| -> Option<String> {
            let mut command = Command::new(program);
            let text = process::output(command.args(arguments.split(' '))).ok()?;
            text.lines().next().map(|line| line.trim_matches(['*', ' ']).to_string())
        };
        let known = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_string());
        let missing = race::missing();
        let is_here = |program: &str| missing.iter().all(|(absent, _)| *absent != program);
        let here = VERSIONS.iter().filter(|(program, _)| is_here(program));
        let mut versions: Vec<String> = first_line(cylinder, "--version").into_iter().collect();
        versions.extend(here.filter_map(|(program, arguments)| first_line(program, arguments)));
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let model = field("/proc/cpuinfo", "model name");
        let memory = field("/proc/meminfo", "MemTotal");
        let memory = memory.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let load = fs::read_to_string("/proc/loadavg").ok();
        Ok(Self {
            processors: format!("{cores} x {}", known(model)),
            memory_mib: memory.unwrap_or(0) / 1024,
            kernel: known(first_line("uname", "-sr")),
            file_system: file_system(place)?,
            load: known(load.and_then(|text| text.split(' ').next().map(String::from))),
            date: known(first_line("date", "-u +%Y-%m-%d")),
            versions,
            missing,
        })
    }
}

/// The version of Debian's Cyrus.
pub fn cyrus_version() -> Result<String, String> {
    let arguments = ["--show", "--showformat", "${Version}", "cyrus-imapd"];
    process::output(Command::new("dpkg-query").args(arguments))
}

/// The first value of a field of a file in /proc.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_string())
}

fn file_system(place: &Path) -> Result<String, String> {
    let mut df = Command::new("df");
    let text = process::output(df.arg("--output=fstype").arg(place))?;
    let name = text.lines().nth(1).map(|line| line.trim().to_string());
    name.ok_or_else(|| format!("df answered {text}"))
}

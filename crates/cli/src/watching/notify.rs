//! Who is told of a noise, and how.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use logwatch::alarms::Severity;
use logwatch::noise::Noise;
use serde_json::{Value, json};

use super::show;
use crate::output::Output;
use crate::render::plain;

/// A way to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notify {
    /// Standard error, with a bell if it is a terminal.
    Stderr,
    /// Standard error, each line with its priority in front, as systemd's journal takes it
    /// (sd-daemon(3)).
    Journal,
    /// A program, which is given the noise as JSON.
    Command(PathBuf),
    /// A URL that JSON is posted to, through curl.
    Webhook(String),
    /// A notification on the desktop of whoever runs it, through notify-send.
    Desktop,
    /// A mail, through the system's sendmail.
    Mail(String),
    /// A file with a status and a text, as Nagios' plugins print them.
    Nagios(PathBuf),
}

/// No program may take longer.
const PROGRAM_LIMIT: Duration = Duration::from_secs(30);

/// Where sendmail is, whichever mail system there is (Filesystem Hierarchy Standard).
const SENDMAIL: &str = "/usr/sbin/sendmail";

impl FromStr for Notify {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (how, what) = text.split_once(':').unwrap_or((text, ""));
        match (how, what) {
            ("stderr", "") => Ok(Self::Stderr),
            ("journal", "") => Ok(Self::Journal),
            ("desktop", "") => Ok(Self::Desktop),
            ("webhook", url) if is_url(url) => Ok(Self::Webhook(url.to_owned())),
            ("command", program) if !program.is_empty() => Ok(Self::Command(program.into())),
            ("mail", to) if !to.is_empty() && !to.starts_with('-') => Ok(Self::Mail(to.to_owned())),
            ("nagios", file) if !file.is_empty() => Ok(Self::Nagios(file.into())),
            _ => Err(
                "it is stderr, journal, desktop, command:PROGRAM, webhook:URL, mail:ADDRESS or \
                       nagios:FILE"
                    .into(),
            ),
        }
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => f.write_str("stderr"),
            Self::Journal => f.write_str("journal"),
            Self::Command(program) => write!(f, "command:{}", program.display()),
            // What stands behind the host is often a secret.
            Self::Webhook(url) => write!(f, "webhook:{}", host_of(url)),
            Self::Desktop => f.write_str("desktop"),
            Self::Mail(to) => write!(f, "mail:{to}"),
            Self::Nagios(file) => write!(f, "nagios:{}", file.display()),
        }
    }
}

impl Notify {
    /// Tells of a noise.
    ///
    /// # Errors
    ///
    /// If nobody was told.
    pub fn tell(&self, noise: &Noise) -> io::Result<()> {
        match self {
            Self::Stderr => {
                let bell = if io::stderr().is_terminal() { "\u{7}" } else { "" };
                io::stderr().write_all(format!("{bell}{}", show::text(noise)).as_bytes())
            }
            Self::Journal => {
                let text = show::text(noise);
                let priority = priority(noise.cause.severity());
                let lines = text.lines().map(|line| format!("<{priority}>{line}\n"));
                io::stderr().write_all(lines.collect::<String>().as_bytes())
            }
            Self::Command(program) => {
                let text = show::json_line(&show::document(noise));
                run(Command::new(program).env("CYLINDER_NOISE", noise.cause.name()), &text)
            }
            Self::Webhook(url) => {
                let mut document = show::document(noise);
                document["text"] = show::text(noise).into();
                post(url, &document)
            }
            Self::Desktop => {
                let (text, name) = (show::text(noise), noise.cause.name());
                let mut command = Command::new("notify-send");
                command.args(["--app-name=cylinder", "--urgency", urgency(noise.cause.severity())]);
                run(command.arg("--").args([name, &text]), "")
            }
            Self::Mail(to) => {
                let text = mail(to, &show::headline(noise), &show::text(noise));
                run(Command::new(SENDMAIL).args(["-i", "-t"]), &text)
            }
            Self::Nagios(_) => Ok(()),
        }
    }

    /// Tells what goes on now, and what keeps us from knowing it.
    ///
    /// # Errors
    ///
    /// If it could not be told.
    pub fn tell_status(&self, open: &[&Noise], trouble: Option<&str>) -> io::Result<()> {
        match self {
            Self::Nagios(file) => write_status(file, &status(open, trouble)),
            _ => Ok(()),
        }
    }

    /// Tells of what was not worth a noise, or went on.
    ///
    /// # Errors
    ///
    /// If nobody was told.
    pub fn tell_digest(&self, digest: &str) -> io::Result<()> {
        match self {
            Self::Mail(to) => {
                run(Command::new(SENDMAIL).args(["-i", "-t"]), &mail(to, "daily digest", digest))
            }
            Self::Webhook(url) => post(url, &json!({ "name": "digest", "text": digest })),
            Self::Stderr | Self::Journal => io::stderr().write_all(digest.as_bytes()),
            Self::Command(_) | Self::Desktop | Self::Nagios(_) => Ok(()),
        }
    }
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty()) && !text.chars().any(char::is_control)
}

/// The URL up to its path, without a name and a password.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit('@').next().unwrap_or(authority)
}

/// Posts JSON. All is said on standard input, where no other user sees it.
fn post(url: &str, document: &Value) -> io::Result<()> {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let document = show::json_line(document);
    let said = format!(
        "url = \"{}\"\nheader = \"Content-Type: application/json\"\ndata-raw = \"{}\"\n",
        quoted(url),
        quoted(document.trim_end()),
    );
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "25", "--config", "-"]);
    run(&mut curl, &said)
}

/// As notify-send has it.
fn urgency(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::Error => "critical",
        Severity::Warning => "normal",
        Severity::Notice => "low",
    }
}

/// Priorities of syslog (RFC 5424, section 6.2.1).
fn priority(severity: Severity) -> u8 {
    match severity {
        Severity::Critical => 2,
        Severity::Error => 3,
        Severity::Warning => 4,
        Severity::Notice => 5,
    }
}

/// A mail of plain text. Both texts are fit for a terminal, and so for a mail; a subject is one line.
fn mail(to: &str, subject: &str, text: &str) -> String {
    let to = to.replace(['\r', '\n'], " ");
    format!(
        "To: {to}\nSubject: cylinder watch: {subject}\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nAuto-Submitted: auto-generated\n\n{text}"
    )
}

/// The line of a Nagios plugin.
fn status(open: &[&Noise], trouble: Option<&str>) -> String {
    if let Some(trouble) = trouble {
        return format!("2 CRITICAL: {}\n", plain(trouble));
    }
    let worst = open.iter().max_by_key(|noise| noise.cause.severity());
    let Some(worst) = worst else { return "0 OK: nothing but the everyday\n".to_owned() };
    let state = match worst.cause.severity() {
        Severity::Critical | Severity::Error => "2 CRITICAL",
        Severity::Warning | Severity::Notice => "1 WARNING",
    };
    format!("{state}: {} open; {}\n", open.len(), show::headline(worst))
}

fn write_status(file: &Path, text: &str) -> io::Result<()> {
    let mut output = Output::create(file)?;
    output.write_all(text.as_bytes())?;
    output.finish()
}

/// Runs a program with that input, for a while at most.
fn run(command: &mut Command, input: &str) -> io::Result<()> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // What fits into a pipe never waits; a noise does. A program need not read it.
        let _ = stdin.write_all(input.as_bytes());
    }
    let start = Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(format!("it ended with {status}"))),
            None if start.elapsed() > PROGRAM_LIMIT => {
                child.kill()?;
                child.wait()?;
                return Err(io::ErrorKind::TimedOut.into());
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[cfg(test)]
mod tests {
    use logwatch::noise::{Cause, NoiseId};
    use logwatch::time::Time;

    use super::*;

    fn noise() -> Noise {
        Noise {
            id: NoiseId(1),
            cause: Cause::NeverSeen,
            time: Time(0),
            host: b"h\n".to_vec(),
            process: b"im\x1b[2Jap".to_vec(),
            pid: Some(1),
            session: Vec::new(),
            message: b"a\r\nBcc: x\x07\xff".to_vec(),
            context: vec![b"b\x1b[2J\n".to_vec()],
            pattern: Vec::new(),
            count: 1,
            related: 0,
        }
    }

    #[test]
    fn what_strangers_wrote_moves_no_cursor_and_adds_no_header() {
        let text = show::text(&noise());
        assert!(text.chars().all(|ch| ch == '\n' || !ch.is_control()), "{text:?}");
        let mail = mail("a@example.org", &show::headline(&noise()), &text);
        let (head, _) = mail.split_once("\n\n").expect("a head");
        assert_eq!(head.lines().count(), 5, "{head}");
    }

    #[test]
    fn ways_are_named_in_one_word() {
        assert_eq!("stderr".parse(), Ok(Notify::Stderr));
        assert_eq!("mail:root".parse(), Ok(Notify::Mail("root".into())));
        assert_eq!("nagios:/x".parse(), Ok(Notify::Nagios("/x".into())));
        let webhook: Notify = "webhook:https://a:b@c.d/secret".parse().expect("a URL");
        assert_eq!(webhook.to_string(), "webhook:c.d");
        for wrong in [
            "",
            "webhook:",
            "webhook:ftp://x",
            "webhook:http://",
            "desktop:x",
            "mail:",
            "mail:-bd",
            "command:",
            "pigeon:x",
            "stderr:x",
        ] {
            assert!(wrong.parse::<Notify>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn nagios_is_told_the_worst() {
        assert!(status(&[], None).starts_with("0 OK"));
        assert!(status(&[&noise()], None).starts_with("1 WARNING: 1 open; "));
        assert_eq!(status(&[&noise()], Some("no\nlog")).lines().count(), 1);
    }

    #[test]
    fn a_program_that_fails_has_told_nobody() {
        assert!(run(&mut Command::new("true"), "x").is_ok());
        assert!(run(&mut Command::new("false"), "x").is_err());
    }
}

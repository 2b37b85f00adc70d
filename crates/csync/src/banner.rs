//! What a replica begins with: a line for each thing it can do, and one that says who it is.

/// A banner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Banner {
    /// SASL mechanisms, in capitals; none if there has to be TLS first.
    pub mechanisms: Vec<String>,
    /// Whether TLS can begin.
    pub starttls: bool,
    /// Whether `COMPRESS DEFLATE` is possible.
    pub deflate: bool,
    /// Whether sieve scripts travel as messages of a mailbox (3.6+).
    pub sieve_mailbox: bool,
    /// Whether messages may be sent for the archive partition (3.8+).
    pub archive: bool,
    /// Who it is: `r.example.com Cyrus sync server 3.6.1`.
    pub greeting: String,
}

/// Where in a banner a reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More lines are to come.
    Lines,
    /// That was the last one.
    Complete,
}

impl Banner {
    /// Of a server with that name and version that offers PLAIN and mailboxes of sieve scripts.
    pub fn new(server: &str, version: &str) -> Self {
        Self {
            mechanisms: vec!["PLAIN".to_owned()],
            sieve_mailbox: true,
            greeting: format!("{server} Cyrus sync server {version}"),
            ..Self::default()
        }
    }

    /// Appends the lines in Cyrus' order.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut line = |text: &str| out.extend_from_slice(format!("* {text}\r\n").as_bytes());
        if !self.mechanisms.is_empty() {
            line(&format!("SASL {}", self.mechanisms.join(" ")));
        }
        let offers = [
            (self.starttls, "STARTTLS"),
            (self.deflate, "COMPRESS DEFLATE"),
            (self.sieve_mailbox, "SIEVE-MAILBOX"),
            (self.archive, "REPLICATION-ARCHIVE"),
        ];
        offers.iter().filter(|(offered, _)| *offered).for_each(|(_, text)| line(text));
        self.write_greeting(out);
    }

    /// Appends the last line alone: all that a peer gets who is logged in already.
    pub fn write_greeting(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("* OK {}\r\n", self.greeting).as_bytes());
    }

    /// The release of a Cyrus, as `(3, 6)`; of others, which number themselves as they like, none.
    pub fn cyrus_version(&self) -> Option<(u32, u32)> {
        let version = self.greeting.split_once("Cyrus sync server ")?.1;
        let mut numbers = version.trim_start_matches('v').split(|c: char| !c.is_ascii_digit());
        let (major, minor) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        // Cyrus has replicated since 2.3.
        (major >= 2).then_some((major, minor))
    }

    /// Takes the next line, without its end. Only `* OK` matters as a whole; words of other lines
    /// count in any case, and unknown ones not at all.
    pub fn take(&mut self, line: &[u8]) -> Progress {
        let line = String::from_utf8_lossy(line);
        if let Some(greeting) = line.strip_prefix("* OK") {
            self.greeting = greeting.strip_prefix(' ').unwrap_or(greeting).to_owned();
            return Progress::Complete;
        }
        let words: Vec<String> = line.split_whitespace().map(str::to_ascii_uppercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [_, "SASL", mechanisms @ ..] => {
                self.mechanisms = mechanisms.iter().map(|name| (*name).to_owned()).collect();
            }
            [_, "STARTTLS", ..] => self.starttls = true,
            [_, "COMPRESS", ways @ ..] => self.deflate = ways.contains(&"DEFLATE"),
            [_, "SIEVE-MAILBOX", ..] => self.sieve_mailbox = true,
            [_, "REPLICATION-ARCHIVE", ..] => self.archive = true,
            _ => {}
        }
        Progress::Lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cyrus_tells_its_release() {
        for (greeting, version) in [
            ("r.example.com Cyrus sync server 3.6.1-Debian-3.6.1-4+deb12u5", Some((3, 6))),
            ("r Cyrus sync server v2.4.18", Some((2, 4))),
            ("r Cyrus sync server 3.10.0", Some((3, 10))),
            ("r Cyrus sync server 0.1.0", None),
            ("r Cyrus sync server", None),
            ("", None),
        ] {
            let banner = Banner { greeting: greeting.to_owned(), ..Banner::default() };
            assert_eq!(banner.cyrus_version(), version, "{greeting}");
        }
    }

    #[test]
    fn a_banner_is_read_back() {
        let full = Banner {
            mechanisms: vec!["PLAIN".to_owned(), "SCRAM-SHA-256".to_owned()],
            starttls: true,
            deflate: true,
            archive: true,
            ..Banner::new("r.example.com", "3.8.1")
        };
        for banner in [full, Banner::new("r", "1"), Banner::default()] {
            let mut out = Vec::new();
            banner.write(&mut out);
            let mut read = Banner::default();
            let mut progress = Progress::Lines;
            for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                assert_eq!(progress, Progress::Lines);
                progress = read.take(line.strip_suffix(b"\r").expect("a line ends in CRLF"));
            }
            assert_eq!((read, progress), (banner, Progress::Complete));
        }
    }
}

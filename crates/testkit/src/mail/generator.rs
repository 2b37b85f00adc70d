//! Made-up messages whose sizes, headers and structures are those of everyday mail.

use crate::imap::mail_date;
use crate::rng::Rng;

/// How large made-up messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// 300 bytes to 3 kB: for tests that care about numbers of messages.
    Small,
    /// 300 bytes to 200 kB, most of them a few kB, and one of three hundred of 1 to 3 MB.
    Everyday,
    /// Around that many bytes each: 100 less at most, 1,000 more at most.
    About(usize),
}

/// Makes up messages; the whole sequence follows from the seed.
#[derive(Clone, Debug)]
pub struct MailGenerator {
    rng: Rng,
    sizes: Sizes,
    made: u64,
}

impl MailGenerator {
    /// A generator with that seed.
    pub fn new(seed: u64, sizes: Sizes) -> Self {
        Self { rng: Rng::new(seed), sizes, made: 0 }
    }

    /// The next message: CRLF line ends, a Message-ID that no other message of this seed has.
    pub fn message(&mut self) -> Vec<u8> {
        self.made += 1;
        let target = self.target();
        let mut message = Vec::with_capacity(target + 1024);
        let shape = self.shape(target);
        self.headers(&mut message, &shape);
        match shape {
            Shape::Ascii => self.text(&mut message, target, &ASCII_WORDS),
            Shape::EightBit => self.text(&mut message, target, &EIGHT_BIT_WORDS),
            Shape::Alternative => self.alternative(&mut message, target),
            Shape::Attachment => self.attachment(&mut message, target),
        }
        message
    }

    /// That many messages.
    pub fn messages(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.message()).collect()
    }

    fn target(&mut self) -> usize {
        let size = match self.sizes {
            Sizes::About(size) => size as u64,
            Sizes::Small => self.rng.between(300, 3_000),
            Sizes::Everyday if self.rng.below(300) == 0 => self.rng.between(1 << 20, 3 << 20),
            Sizes::Everyday => {
                // Each further doubling is rarer than the one before.
                let doublings = self.rng.below(10).min(self.rng.below(10));
                self.rng.between(300 << doublings, 400 << doublings)
            }
        };
        usize::try_from(size).unwrap_or(usize::MAX)
    }

    fn shape(&mut self, target: usize) -> Shape {
        match self.rng.below(10) {
            _ if target < 1_500 => {
                if self.rng.chance(70) {
                    Shape::Ascii
                } else {
                    Shape::EightBit
                }
            }
            _ if target > 60_000 => Shape::Attachment,
            0..4 => Shape::Ascii,
            4..6 => Shape::EightBit,
            6..9 => Shape::Alternative,
            _ => Shape::Attachment,
        }
    }

    fn headers(&mut self, out: &mut Vec<u8>, shape: &Shape) {
        let date = 1_000_000_000 + self.rng.below(600_000_000) as i64;
        let date = mail_date(date);
        let id = format!("{}.{:x}@mail.test", self.made, self.rng.next_u64());
        let (from, to) = (self.person(), self.person());
        if !self.rng.chance(30) {
            let hop = self.rng.below(250);
            line(out, "Return-Path: <bounce@lists.test>");
            line(out, &format!("Received: from relay{hop}.test (relay{hop}.test [192.0.2.{hop}])"));
            line(out, &format!("\tby mx.test with ESMTPS id {:012x};", self.rng.next_u64() >> 16));
            line(out, &format!("\t{date}"));
        }
        line(out, &format!("Date: {date}"));
        line(out, &format!("From: {from}"));
        line(out, &format!("To: {to}"));
        let subject = self.sentence(&ASCII_WORDS, 4);
        if self.rng.chance(20) {
            line(out, &format!("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe=2C?= {subject}"));
        } else {
            line(out, &format!("Subject: {subject}"));
        }
        line(out, &format!("Message-ID: <{id}>"));
        if self.rng.chance(8) {
            line(out, "References:");
            for _ in 0..self.rng.between(2, 40) {
                line(out, &format!(" <{:016x}@elsewhere.test>", self.rng.next_u64()));
            }
        }
        line(out, "MIME-Version: 1.0");
        line(out, shape.content_type());
        if matches!(shape, Shape::EightBit) {
            line(out, "Content-Transfer-Encoding: 8bit");
        }
        line(out, "");
    }

    fn person(&mut self) -> String {
        let name = *self.rng.pick(&NAMES);
        let domain = *self.rng.pick(&["mail.test", "lists.test", "example.test"]);
        format!("{name} <{}@{domain}>", self.rng.pick(&ASCII_WORDS))
    }

    /// Lines of words until the message has `target` bytes.
    fn text(&mut self, out: &mut Vec<u8>, target: usize, words: &[&str]) {
        loop {
            let sentence = self.sentence(words, 10);
            line(out, &sentence);
            if out.len() >= target {
                return;
            }
            if self.rng.chance(10) {
                line(out, "");
            }
        }
    }

    fn alternative(&mut self, out: &mut Vec<u8>, target: usize) {
        line(out, "--=_boundary");
        line(out, "Content-Type: text/plain; charset=us-ascii");
        line(out, "");
        let half = out.len() + target.saturating_sub(out.len()) / 2;
        self.text(out, half, &ASCII_WORDS);
        line(out, "--=_boundary");
        line(out, "Content-Type: text/html; charset=utf-8");
        line(out, "Content-Transfer-Encoding: 8bit");
        line(out, "");
        line(out, "<html><body><p>");
        self.text(out, target, &EIGHT_BIT_WORDS);
        line(out, "</p></body></html>");
        line(out, "--=_boundary--");
    }

    fn attachment(&mut self, out: &mut Vec<u8>, target: usize) {
        line(out, "--=_boundary");
        line(out, "Content-Type: text/plain; charset=utf-8");
        line(out, "");
        let few = (out.len() + 400).min(target);
        self.text(out, few, &EIGHT_BIT_WORDS);
        line(out, "--=_boundary");
        line(out, "Content-Type: application/octet-stream; name=\"data.bin\"");
        line(out, "Content-Transfer-Encoding: base64");
        line(out, "Content-Disposition: attachment; filename=\"data.bin\"");
        line(out, "");
        while out.len() < target {
            self.base64_line(out);
        }
        line(out, "--=_boundary--");
    }

    /// A full line of base64: random, hence as hard to compress as an attachment is.
    fn base64_line(&mut self, out: &mut Vec<u8>) {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for _ in 0..8 {
            let word = self.rng.next_u64();
            let digit = |at: u32| DIGITS[(word >> (6 * at) & 63) as usize];
            out.extend((0..9).map(digit));
        }
        out.extend_from_slice(b"AA==\r\n");
    }

    fn sentence(&mut self, words: &[&str], most: u64) -> String {
        let count = self.rng.between(1, most);
        let mut sentence = String::new();
        for at in 0..count {
            if at > 0 {
                sentence.push(' ');
            }
            sentence.push_str(words[self.rng.index(words.len())]);
        }
        sentence
    }
}

enum Shape {
    Ascii,
    EightBit,
    Alternative,
    Attachment,
}

impl Shape {
    fn content_type(&self) -> &'static str {
        match self {
            Shape::Ascii => "Content-Type: text/plain; charset=us-ascii",
            Shape::EightBit => "Content-Type: text/plain; charset=utf-8",
            Shape::Alternative => "Content-Type: multipart/alternative; boundary=\"=_boundary\"",
            Shape::Attachment => "Content-Type: multipart/mixed; boundary=\"=_boundary\"",
        }
    }
}

fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

const NAMES: [&str; 8] = [
    "\"Gladys Smith\"",
    "Fred",
    "=?utf-8?q?J=C3=BCrgen_M=C3=BCller?=",
    "\"Zoe, of Accounts\"",
    "Ann",
    "=?iso-8859-1?q?Andr=E9?=",
    "List Owner",
    "\"B. Builder\"",
];

const ASCII_WORDS: [&str; 24] = [
    "about",
    "archive",
    "before",
    "clay",
    "could",
    "delivery",
    "every",
    "folder",
    "harbour",
    "letter",
    "meeting",
    "monday",
    "nothing",
    "paper",
    "please",
    "report",
    "river",
    "server",
    "should",
    "thanks",
    "tomorrow",
    "version",
    "without",
    "yesterday",
];

const EIGHT_BIT_WORDS: [&str; 16] = [
    "über",
    "Straße",
    "naïve",
    "café",
    "señor",
    "Ελλάδα",
    "письмо",
    "архив",
    "手紙",
    "çok",
    "łódź",
    "plain",
    "words",
    "between",
    "déjà",
    "fjørd",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_messages() {
        let make = |seed| MailGenerator::new(seed, Sizes::Everyday).messages(20);
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    #[test]
    fn sizes_are_those_that_were_promised() {
        let mut small = MailGenerator::new(3, Sizes::Small);
        assert!(small.messages(500).iter().all(|message| (300..5_000).contains(&message.len())));

        let mut everyday = MailGenerator::new(3, Sizes::Everyday);
        let mut sizes: Vec<usize> = everyday.messages(2_000).iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert!(sizes[0] >= 300, "{}", sizes[0]);
        assert!((1_000..8_000).contains(&sizes[1_000]), "median {}", sizes[1_000]);
        assert!(sizes.iter().all(|size| *size < 210_000 || *size > 1 << 20));
        assert!((2..20).contains(&sizes.iter().filter(|size| **size > 1 << 20).count()));

        let mut about = MailGenerator::new(3, Sizes::About(10_000));
        let range = 9_900..11_000;
        assert!(about.messages(100).iter().all(|message| range.contains(&message.len())));
    }

    #[test]
    fn messages_are_different_and_every_line_ends_in_crlf() {
        let messages = MailGenerator::new(4, Sizes::Small).messages(1_000);
        for message in &messages {
            assert!(message.ends_with(b"\r\n"));
            assert_eq!(super::super::with_crlf(message), *message);
            assert!(message.windows(4).any(|window| window == b"\r\n\r\n"), "no end of the header");
        }
        assert_eq!(messages.iter().collect::<BTreeSet<_>>().len(), 1_000);
    }
}

//! The lines that came last, for those that need to be seen with what came before.

use crate::line::Line;
use crate::mask::Hash;
use crate::noise::CONTEXT_LINES_MAX;

/// So many lines are kept: on a busy server, those of some seconds.
const LINES: usize = 512;

/// So much of each, in bytes.
const LINE_BYTES_MAX: usize = 240;

/// A ring of lines.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// Who said it, and how long it is.
    lines: Vec<(u64, usize)>,
    /// What was said, each in as much room as the longest has.
    text: Vec<u8>,
    /// Where the next one goes.
    next: usize,
}

impl Recent {
    /// Keeps a line, in place of the oldest.
    #[inline]
    pub fn push(&mut self, line: &Line<'_>) {
        let length = line.message.len().min(LINE_BYTES_MAX);
        if self.lines.len() < LINES {
            self.lines.push((0, 0));
            self.text.resize(self.lines.len() * LINE_BYTES_MAX, 0);
        }
        self.lines[self.next] = (speaker(line), length);
        let start = self.next * LINE_BYTES_MAX;
        self.text[start..start + length].copy_from_slice(&line.message[..length]);
        self.next = (self.next + 1) % LINES;
    }

    /// What the process of a line said last, oldest first; nothing if the line tells of none.
    pub fn before(&self, line: &Line<'_>) -> Vec<Vec<u8>> {
        if line.pid.is_none() {
            return Vec::new();
        }
        let speaker = speaker(line);
        let newest_first = (0..self.lines.len()).map(|back| {
            let index = (self.next + self.lines.len() - 1 - back) % self.lines.len();
            (index, self.lines[index])
        });
        let said = newest_first.filter(|(_, (by, _))| *by == speaker).take(CONTEXT_LINES_MAX);
        let mut context: Vec<Vec<u8>> = said
            .map(|(index, (_, length))| {
                let start = index * LINE_BYTES_MAX;
                self.text[start..start + length].to_vec()
            })
            .collect();
        context.reverse();
        context
    }
}

#[inline]
fn speaker(line: &Line<'_>) -> u64 {
    let pid = u64::from(line.pid.unwrap_or_default());
    Hash::new(5).bytes(line.host).bytes(line.process).number(pid).end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pid: u32, message: &str) -> Line<'_> {
        Line {
            time: None,
            host: b"h",
            process: b"imap",
            pid: Some(pid),
            message: message.as_bytes(),
        }
    }

    #[test]
    fn each_process_has_said_what_it_said() {
        let mut recent = Recent::default();
        assert!(recent.before(&line(1, "")).is_empty());
        for n in 0..10 {
            recent.push(&line(1, &format!("one {n}")));
            recent.push(&line(2, &format!("two {n}")));
        }
        assert_eq!(recent.before(&line(1, "")), [b"one 7", b"one 8", b"one 9"]);
        assert!(recent.before(&Line { pid: None, ..line(1, "") }).is_empty());
    }

    #[test]
    fn what_is_old_or_long_is_not_kept() {
        let mut recent = Recent::default();
        recent.push(&line(1, "old"));
        for _ in 0..3 * LINES {
            recent.push(&line(2, &"x".repeat(9000)));
        }
        assert!(recent.before(&line(1, "")).is_empty());
        assert_eq!(recent.before(&line(2, ""))[0].len(), LINE_BYTES_MAX);
        assert_eq!(recent.text.len(), LINES * LINE_BYTES_MAX);
    }
}

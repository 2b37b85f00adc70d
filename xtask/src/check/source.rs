//! A Rust source seen three ways, so that a rule about code is not misled by a string or a comment.

use crate::workspace::TextFile;

/// The views have the length of the file and its line breaks; what they leave out is blank.
#[derive(Debug)]
pub struct Source<'a> {
    /// Path below the root.
    pub path: &'a str,
    /// As written.
    pub text: &'a str,
    /// Without comments and without what literals say.
    pub code: String,
    /// Comments alone.
    pub comments: String,
}

impl<'a> Source<'a> {
    /// Takes a file apart.
    pub fn new(file: &'a TextFile) -> Self {
        let (code, comments) = split(file.text.as_bytes());
        Self { path: &file.path, text: &file.text, code, comments }
    }

    /// Whether the whole file is only built for tests, benchmarks or examples.
    pub fn is_test_file(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "examples" | "testkit"))
    }

    /// The byte ranges of items that are only built for tests.
    pub fn test_items(&self) -> Vec<std::ops::Range<usize>> {
        let mut items = Vec::new();
        for (start, attribute) in self.code.match_indices("#[cfg(test)]") {
            let rest = start + attribute.len();
            let end = body(&self.code[rest..]).map_or(rest, |body| rest + body.end);
            items.push(start..end);
        }
        items
    }

    /// The number of the line that holds the byte at `offset`, from 1.
    pub fn line_of(&self, offset: usize) -> usize {
        1 + self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
    }
}

/// The first `{ ... }` of an item, unless the item ends with a `;` before it. Brackets and
/// parentheses of a signature may hold a `;` of their own, as in `[u8; 4]`.
pub fn body(item: &str) -> Option<std::ops::Range<usize>> {
    let (mut nested, mut braces, mut start) = (0_i32, 0_i32, 0);
    for (at, byte) in item.bytes().enumerate() {
        match byte {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested -= 1,
            b';' if braces == 0 && nested == 0 => return None,
            b'{' => {
                if braces == 0 {
                    start = at;
                }
                braces += 1;
            }
            b'}' => {
                braces -= 1;
                if braces == 0 {
                    return Some(start..at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Where `word` stands in `text` by itself, not as a part of a longer name.
pub fn words<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = usize> + 't {
    let is_name = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let bytes = text.as_bytes();
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        !is_name(before) && !is_name(bytes.get(at + word.len()))
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

fn split(text: &[u8]) -> (String, String) {
    let (mut code, mut comments) = (String::new(), String::new());
    let mut rest = text;
    while !rest.is_empty() {
        let (kind, len) = next_piece(rest);
        let (piece, after) = rest.split_at(len.min(rest.len()));
        for byte in piece {
            let shown = |yes: bool| match byte {
                b'\n' => '\n',
                _ if yes && byte.is_ascii() => char::from(*byte),
                _ => ' ',
            };
            code.push(shown(kind == Kind::Code));
            comments.push(shown(kind == Kind::Comment));
        }
        rest = after;
    }
    (code, comments)
}

/// What `rest` begins with, and its length in bytes; never 0.
fn next_piece(rest: &[u8]) -> (Kind, usize) {
    match rest {
        [b'/', b'/', ..] => (Kind::Comment, line_end(rest)),
        [b'/', b'*', ..] => (Kind::Comment, block_comment(rest)),
        [b'"', ..] => (Kind::Literal, quoted(rest, b'"')),
        [b'\'', b'\\', ..] => (Kind::Literal, quoted(rest, b'\'')),
        [b'\'', ..] if is_char_literal(rest) => (Kind::Literal, quoted(rest, b'\'')),
        [b'r', b'"' | b'#', ..] => match raw_string(rest) {
            Some(len) => (Kind::Literal, len),
            None => (Kind::Code, 1),
        },
        _ => (Kind::Code, 1),
    }
}

fn line_end(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

/// Block comments nest.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// A literal in quotes, with its quotes; a backslash takes the byte behind it along.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `'a'` is a literal, `'a` a lifetime: the quote behind one character decides.
fn is_char_literal(rest: &[u8]) -> bool {
    let window = String::from_utf8_lossy(&rest[1..rest.len().min(6)]).into_owned();
    window.chars().nth(1) == Some('\'')
}

/// `r"..."` or `r#"..."#`; `None` for a raw identifier.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'#'; hashes + 1];
    end[0] = b'"';
    let from = hashes + 2;
    let found = rest[from..].windows(end.len()).position(|window| window == end);
    Some(found.map_or(rest.len(), |at| from + at + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(text: &str) -> String {
        split(text.as_bytes()).0
    }

    #[test]
    fn literals_and_comments_are_no_code() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("unsafe \" {", x)"#, "f(             , x)"),
            (r###"r#"{"# }"###, "       }"),
            ("'{' '\\'' 'a: 'static", "         'a: 'static"),
            ("r#fn b\"}\"", "r#fn b   "),
        ] {
            assert_eq!(code_of(text), code, "{text}");
            assert_eq!(code_of(text).len(), text.len());
        }
    }

    #[test]
    fn comments_are_seen_alone() {
        let (_, comments) = split("let x = \"// no\"; // yes".as_bytes());
        assert_eq!(comments.trim(), "// yes");
    }

    #[test]
    fn unfinished_literals_and_characters_beyond_ascii_end_with_the_file() {
        for text in ["\"abc", "'\\", "r#\"abc", "/* abc", "\u{e9}'\u{e9}'\"\u{e9}"] {
            assert_eq!(code_of(text).len(), text.len(), "{text}");
        }
    }

    #[test]
    fn items_for_tests_are_found() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() {} }\nfn c() {}\n".to_string();
        let file = TextFile { path: "crates/x/src/lib.rs".to_string(), text };
        let source = Source::new(&file);
        let items = source.test_items();
        assert_eq!(items.len(), 1);
        assert!(file.text[items[0].clone()].ends_with("fn b() {} }"));
        assert!(!source.is_test_file());
    }

    #[test]
    fn words_stand_by_themselves() {
        let found: Vec<usize> = words("fs xfs fs_ (fs)", "fs").collect();
        assert_eq!(found, [0, 12]);
    }
}

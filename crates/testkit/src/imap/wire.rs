//! Responses of an IMAP server: reading one whole, and taking it apart (RFC 9051, section 9).

use std::borrow::Cow;
use std::io::{self, BufRead, Read};

/// The longest literal that a test may ask for; more means that reading went astray.
const LITERAL_LIMIT: u64 = 256 << 20;

/// One piece of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A bare word: a keyword, a number, a flag, `NIL`.
    Atom(&'a [u8]),
    /// A quoted string or a literal.
    Text(Cow<'a, [u8]>),
    /// What stands between parentheses.
    List(Vec<Value<'a>>),
}

impl<'a> Value<'a> {
    /// The bytes of an atom or a string; `None` for a list and for `NIL`.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Atom(atom) if atom.eq_ignore_ascii_case(b"NIL") => None,
            Value::Atom(atom) => Some(atom),
            Value::Text(text) => Some(text),
            Value::List(_) => None,
        }
    }

    /// The same as text, bytes that are not UTF-8 replaced.
    pub fn text(&self) -> Option<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// The value as a number.
    pub fn number(&self) -> Option<u64> {
        std::str::from_utf8(self.bytes()?).ok()?.parse().ok()
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Value<'a>] {
        match self {
            Value::List(items) => items,
            _ => &[],
        }
    }
}

/// Reads one response into `raw`: a line, and with it every literal it announces, up to the CRLF
/// that ends it. The literals stay where they stand, so [`parse`] can read them.
pub fn read_response(input: &mut impl BufRead, raw: &mut Vec<u8>) -> io::Result<()> {
    raw.clear();
    loop {
        let line_start = raw.len();
        input.read_until(b'\n', raw)?;
        if !raw[line_start..].ends_with(b"\n") {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up"));
        }
        let Some(length) = announced_literal(&raw[line_start..]) else { return Ok(()) };
        if length > LITERAL_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a literal beyond reason"));
        }
        let literal_start = raw.len();
        input.by_ref().take(length).read_to_end(raw)?;
        if (raw.len() - literal_start) as u64 != length {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up"));
        }
    }
}

/// Takes the pieces of a response apart. Text for people (after `OK` and the like) is split at
/// spaces as well, which does no harm to whoever looks at the front only.
pub fn parse(raw: &[u8]) -> Vec<Value<'_>> {
    let mut parser = Parser { rest: raw };
    let mut lists: Vec<Vec<Value<'_>>> = vec![Vec::new()];
    while let Some(token) = parser.next_token() {
        match token {
            Token::Open => lists.push(Vec::new()),
            Token::Close => close(&mut lists),
            Token::Value(value) => push(&mut lists, value),
        }
    }
    while lists.len() > 1 {
        close(&mut lists);
    }
    lists.pop().unwrap_or_default()
}

fn close<'a>(lists: &mut Vec<Vec<Value<'a>>>) {
    if lists.len() > 1
        && let Some(items) = lists.pop()
    {
        push(lists, Value::List(items));
    }
}

fn push<'a>(lists: &mut [Vec<Value<'a>>], value: Value<'a>) {
    if let Some(innermost) = lists.last_mut() {
        innermost.push(value);
    }
}

/// The length in `{n}` or `{n+}` at the end of a line.
fn announced_literal(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line).strip_suffix(b"}")?;
    let line = line.strip_suffix(b"+").unwrap_or(line);
    let open = line.iter().rposition(|byte| *byte == b'{')?;
    std::str::from_utf8(&line[open + 1..]).ok()?.parse().ok()
}

enum Token<'a> {
    Open,
    Close,
    Value(Value<'a>),
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    fn next_token(&mut self) -> Option<Token<'a>> {
        let blank =
            self.rest.iter().take_while(|byte| matches!(byte, b' ' | b'\r' | b'\n')).count();
        self.rest = &self.rest[blank..];
        match *self.rest.first()? {
            b'(' => {
                self.rest = &self.rest[1..];
                Some(Token::Open)
            }
            b')' => {
                self.rest = &self.rest[1..];
                Some(Token::Close)
            }
            b'"' => Some(Token::Value(Value::Text(self.quoted()))),
            b'{' => Some(Token::Value(self.literal())),
            _ => Some(Token::Value(Value::Atom(self.atom()))),
        }
    }

    fn quoted(&mut self) -> Cow<'a, [u8]> {
        let body = &self.rest[1..];
        let mut end = 0;
        let mut escaped = false;
        while end < body.len() && body[end] != b'"' {
            if body[end] == b'\\' {
                escaped = true;
                end += 1;
            }
            end += 1;
        }
        let end = end.min(body.len());
        self.rest = body.get(end + 1..).unwrap_or_default();
        if escaped { Cow::Owned(unescape(&body[..end])) } else { Cow::Borrowed(&body[..end]) }
    }

    fn literal(&mut self) -> Value<'a> {
        let line_end = self.rest.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let length = announced_literal(&self.rest[..line_end]);
        match length.and_then(|length| usize::try_from(length).ok()) {
            Some(length) if length <= self.rest.len() - line_end => {
                let (literal, rest) = self.rest[line_end..].split_at(length);
                self.rest = rest;
                Value::Text(Cow::Borrowed(literal))
            }
            _ => Value::Atom(self.atom()),
        }
    }

    fn atom(&mut self) -> &'a [u8] {
        let length = self
            .rest
            .iter()
            .position(|byte| matches!(byte, b' ' | b'(' | b')' | b'\r' | b'\n'))
            .unwrap_or(self.rest.len());
        let (atom, rest) = self.rest.split_at(length);
        self.rest = rest;
        atom
    }
}

fn unescape(quoted: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => plain.extend(bytes.next()),
            other => plain.push(*other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value<'_> {
        Value::Text(Cow::Borrowed(value.as_bytes()))
    }

    #[test]
    fn a_fetch_response_comes_apart() {
        let raw =
            b"* 1 FETCH (UID 7 FLAGS (\\Seen $Foo) BODY[] {5}\r\na)\r\n( X NIL \"q\\\"\")\r\n";
        let expected = vec![
            Value::Atom(b"*"),
            Value::Atom(b"1"),
            Value::Atom(b"FETCH"),
            Value::List(vec![
                Value::Atom(b"UID"),
                Value::Atom(b"7"),
                Value::Atom(b"FLAGS"),
                Value::List(vec![Value::Atom(b"\\Seen"), Value::Atom(b"$Foo")]),
                Value::Atom(b"BODY[]"),
                text("a)\r\n("),
                Value::Atom(b"X"),
                Value::Atom(b"NIL"),
                text("q\""),
            ]),
        ];
        assert_eq!(parse(raw), expected);
    }

    #[test]
    fn reading_stops_behind_the_line_that_has_no_literal() {
        let mut input: &[u8] = b"* 1 FETCH (BODY[] {3}\r\n\r\n{ X {2}\r\nab)\r\n* next\r\n";
        let mut raw = Vec::new();
        read_response(&mut input, &mut raw).expect("a whole response");
        assert_eq!(raw, b"* 1 FETCH (BODY[] {3}\r\n\r\n{ X {2}\r\nab)\r\n");
        assert_eq!(input, b"* next\r\n");
    }

    #[test]
    fn a_response_cut_anywhere_is_an_error_and_no_panic() {
        let whole = b"* 1 FETCH (BODY[] {4}\r\nabcd X \"y\\\"z\")\r\n";
        for cut in 0..whole.len() {
            let mut input = &whole[..cut];
            let mut raw = Vec::new();
            assert!(read_response(&mut input, &mut raw).is_err(), "cut at {cut}");
            parse(&whole[..cut]);
        }
    }

    #[test]
    fn unbalanced_parentheses_do_no_harm() {
        assert_eq!(parse(b")) a"), vec![Value::Atom(b"a")]);
        assert_eq!(parse(b"((a"), vec![Value::List(vec![Value::List(vec![Value::Atom(b"a")])])]);
    }
}

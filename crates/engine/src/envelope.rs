//! The fields of a message's header by which people know it again.

/// How much of a message is looked at: no honest header is longer, and one that is has these
/// fields in front.
pub(crate) const LOOKED_AT: usize = 64 << 10;

/// The longest value that is kept, in bytes.
const VALUE_MAX: usize = 500;

/// The fields, in the order in which they are listed; their names are told without regard to
/// case.
const NAMES: [&[u8]; FIELDS] = [b"date", b"from", b"to", b"subject", b"message-id"];

/// How many there are.
pub(crate) const FIELDS: usize = 5;

/// Date, From, To, Subject and Message-ID as they stand in the header, unfolded; empty where there
/// is none. Of several with one name, the first counts. No value holds a tab or ends a line.
pub(crate) fn fields(message: &[u8]) -> [Vec<u8>; FIELDS] {
    let mut values: [Option<Vec<u8>>; FIELDS] = Default::default();
    // The field that the last line was of, if it is one of these and not there already.
    let mut current: Option<usize> = None;
    for line in message[..message.len().min(LOOKED_AT)].split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = match line.first() {
            None => break,
            Some(b' ' | b'\t') => line,
            Some(_) => {
                let (number, value) = begin(line).unzip();
                current = number.filter(|number: &usize| values[*number].is_none());
                value.unwrap_or_default()
            }
        };
        if let Some(number) = current {
            add(values[number].get_or_insert_default(), text);
        }
    }
    values.map(|value| trimmed(value.unwrap_or_default()))
}

/// Which of the fields a line begins, and its value; `None` if it is another one or none.
fn begin(line: &[u8]) -> Option<(usize, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = line[..colon].trim_ascii_end();
    let number = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
    Some((number, &line[colon + 1..]))
}

/// Adds to a value what still fits, with blanks for whatever would end it.
fn add(value: &mut Vec<u8>, text: &[u8]) {
    let text = if value.is_empty() { text.trim_ascii_start() } else { text };
    let room = VALUE_MAX - value.len();
    value.extend(text.iter().take(room).map(|byte| match byte {
        b'\t' | b'\r' | b'\n' | 0 => b' ',
        other => *other,
    }));
}

fn trimmed(mut value: Vec<u8>) -> Vec<u8> {
    value.truncate(value.trim_ascii_end().len());
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(message: &[u8]) -> [String; FIELDS] {
        fields(message).map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    #[test]
    fn fields_are_found_by_name_whatever_their_order_and_case() {
        let message = b"Received: from x\r\n\tby y; Mon\r\nSUBJECT: Hello \r\nmessage-ID:<1@x>\r\n\
            To : glad\r\nfrom:\tiris\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nSubject: body\r\n";
        assert_eq!(
            texts(message),
            ["Mon, 1 Jan 2024 00:00:00 +0000", "iris", "glad", "Hello", "<1@x>"]
        );
    }

    #[test]
    fn a_folded_value_is_one_line() {
        let message =
            b"Subject: one\r\n two\r\n\t\tthree\nX: y\r\n z\r\nTo:\r\n glad,\r\n iris\r\n\r\n";
        let [_, _, to, subject, _] = texts(message);
        assert_eq!((to.as_str(), subject.as_str()), ("glad, iris", "one two  three"));
    }

    #[test]
    fn the_first_of_several_counts() {
        let message = b"Subject: one\r\nSubject: two\r\n three\r\nTo: a\r\nTo: b\r\n\r\n";
        let [_, _, to, subject, _] = texts(message);
        assert_eq!((to.as_str(), subject.as_str()), ("a", "one"));
    }

    #[test]
    fn what_has_no_header_or_no_body_is_no_harm() {
        let nothing = [const { String::new() }; FIELDS];
        for message in [b"".as_slice(), b"\r\n", b"\n\nSubject: x\n", b"\r\nTo: x", b"no header"] {
            assert_eq!(texts(message), nothing);
        }
        assert_eq!(texts(b"Subject: no body")[3], "no body");
        assert_eq!(texts(b" Subject: x\nSubject: y")[3], "y");
        assert_eq!(texts(b"From glad Mon Jan 1 12:00\nFrom: glad\n")[1], "glad");
    }

    #[test]
    fn a_huge_header_and_a_huge_value_are_cut() {
        let before = |bytes: usize| [b"X: ", vec![b'x'; bytes].as_slice(), b"\r\n"].concat();
        let seen = [before(LOOKED_AT - 100), b"Subject: seen\r\n\r\n".to_vec()].concat();
        assert_eq!(texts(&seen)[3], "seen");
        let unseen = [before(LOOKED_AT), b"Subject: unseen\r\n\r\n".to_vec()].concat();
        assert_eq!(texts(&unseen)[3], "");
        let long = [b"To: ", vec![b'x'; 3000].as_slice(), b"\r\n y\r\n\r\n"].concat();
        assert_eq!(texts(&long)[2], "x".repeat(VALUE_MAX));
    }

    proptest! {
        #[test]
        fn no_value_ends_a_line_or_is_too_long(
            message in proptest::collection::vec(
                prop_oneof![
                    Just(b"Subject:".to_vec()), Just(b"\r\n".to_vec()), Just(b"\n".to_vec()),
                    Just(b" ".to_vec()), Just(b"\t".to_vec()), Just(b"to: ".to_vec()),
                    any::<Vec<u8>>(),
                ],
                0..20,
            ),
        ) {
            for value in fields(&message.concat()) {
                prop_assert!(value.len() <= VALUE_MAX);
                prop_assert!(!value.iter().any(|byte| b"\t\r\n\0".contains(byte)));
            }
        }
    }
}

//! The text of a header field, as people read it.

use mail_parser::parsers::MessageStream;

/// Decodes the encoded words (RFC 2047) of a field's value.
///
/// Bytes that are neither in an encoded word nor UTF-8 are taken as Latin-1: mail programs that
/// wrote such headers mostly meant that. What cannot be decoded stays as it is.
pub fn decode(value: &[u8]) -> String {
    let mut line = utf8(value);
    if !line.contains("=?") {
        return line;
    }
    // The parser ends a field at the line's end, and takes nothing without one.
    line.push('\n');
    let parsed = MessageStream::new(line.as_bytes()).parse_unstructured();
    let decoded = parsed.into_text().map(std::borrow::Cow::into_owned);
    line.truncate(line.len() - 1);
    decoded.map_or(line, |decoded| decoded.trim().to_owned())
}

fn utf8(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len() + 1);
    for chunk in value.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().copied().map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encoded_words_are_decoded_wherever_they_stand() {
        for (value, text) in [
            ("=?utf-8?q?J=C3=B6rg_M?= <j@x>", "J\u{f6}rg M <j@x>"),
            ("=?iso-8859-1?Q?a?= =?UTF-8?B?w7w=?=", "a\u{fc}"),
            ("Re: =?UTF-8?B?w7xiZXI=?= alles", "Re: \u{fc}ber alles"),
            ("=?windows-1252?q?=805?=", "\u{20ac}5"),
            ("=?iso-2022-jp?B?GyRCJTAbKEI=?=", "\u{30b0}"),
            ("=?big5?B?p0Gmbg==?=", "\u{4f60}\u{597d}"),
            ("no words at all", "no words at all"),
            ("", ""),
        ] {
            assert_eq!(decode(value.as_bytes()), text, "{value}");
        }
    }

    #[test]
    fn what_is_no_encoded_word_stays_as_it_is() {
        for value in ["=?", "=?utf-8?x?abc?=", "a =?utf-8?q", "1 =? 2", "=?utf-8?b?"] {
            assert_eq!(decode(value.as_bytes()), value);
        }
    }

    #[test]
    fn bytes_beyond_ascii_are_utf8_or_latin_1() {
        assert_eq!(decode("J\u{f6}rg".as_bytes()), "J\u{f6}rg");
        assert_eq!(decode(b"J\xf6rg =?utf-8?q?=C3=BC?="), "J\u{f6}rg \u{fc}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just(b"=?".to_vec()), Just(b"utf-8?q?".to_vec()), Just(b"gb2312?B?".to_vec()),
                    Just(b"utf-16?b?".to_vec()), Just(b"utf-7?q?".to_vec()), Just(b"?=".to_vec()),
                    Just(b" ".to_vec()), Just(b"=C3".to_vec()), any::<Vec<u8>>(),
                ],
                0..12,
            ),
        ) {
            decode(&pieces.concat());
        }
    }
}

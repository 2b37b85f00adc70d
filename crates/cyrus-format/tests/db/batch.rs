//! Commands of `cyr_dbtool … batch`, and what they ought to do.

use std::collections::BTreeMap;

use cyrus_format::dlist::Dlist;

pub type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
pub enum Command {
    Begin,
    Set(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Commit,
}

/// Reads a batch file.
pub fn parse(mut text: &[u8]) -> Vec<Command> {
    let mut commands = Vec::new();
    while !text.is_empty() {
        commands.push(match word(&mut text).as_slice() {
            b"BEGIN" => Command::Begin,
            b"SET" => Command::Set(word(&mut text), word(&mut text)),
            b"DELETE" => Command::Delete(word(&mut text)),
            b"COMMIT" => Command::Commit,
            other => panic!("no such command: {}", other.escape_ascii()),
        });
    }
    commands
}

/// Reads the output of `SHOW`.
pub fn parse_show(mut text: &[u8]) -> Pairs {
    let mut pairs = Pairs::new();
    while !text.is_empty() {
        pairs.insert(word(&mut text), word(&mut text));
    }
    pairs
}

pub fn to_text(commands: &[Command]) -> Vec<u8> {
    let mut text = Vec::new();
    for command in commands {
        let (name, words) = match command {
            Command::Begin => ("BEGIN", vec![]),
            Command::Set(key, value) => ("SET", vec![key, value]),
            Command::Delete(key) => ("DELETE", vec![key]),
            Command::Commit => ("COMMIT", vec![]),
        };
        text.extend_from_slice(name.as_bytes());
        for word in words {
            text.extend(format!(" {{{}+}}\r\n", word.len()).bytes());
            text.extend_from_slice(word);
        }
        text.push(b'\n');
    }
    text
}

/// What a database holds after each finished transaction; at first, `start`.
pub fn states(start: &Pairs, commands: &[Command]) -> Vec<Pairs> {
    let mut states = vec![start.clone()];
    let mut now = start.clone();
    let mut in_transaction = false;
    for command in commands {
        match command {
            Command::Begin => in_transaction = true,
            Command::Set(key, value) => {
                now.insert(key.clone(), value.clone());
            }
            Command::Delete(key) => {
                now.remove(key);
            }
            Command::Commit => in_transaction = false,
        }
        if !in_transaction {
            states.push(now.clone());
        }
    }
    states
}

/// Takes a word and the blank or line end behind it.
fn word(text: &mut &[u8]) -> Vec<u8> {
    let (value, length) = Dlist::parse(text).expect("an atom, a quoted string or a literal");
    *text = text.get(length + 1..).expect("a blank or line end");
    value.as_bytes().expect("a string").to_vec()
}

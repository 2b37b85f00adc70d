//! Cyrus' own `sync_client` on the same channel: it would remove a log that is not its own.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{CliError, Exit};

/// Refuses to work beside one.
pub fn refuse(conf: &Path, channel: Option<&str>) -> Result<(), CliError> {
    match find(conf, channel) {
        None => Ok(()),
        Some(pid) => Err(CliError::plain(format!(
            "sync_client (process {pid}) follows this channel of the sync log"
        ))
        .hint("stop it, and take it out of cyrus.conf; or use a channel of your own")
        .exit(Exit::TryAgain)),
    }
}

/// One that follows this channel of the server with that configuration, if there is one.
pub fn find(conf: &Path, channel: Option<&str>) -> Option<u32> {
    let wanted = conf.canonicalize().unwrap_or_else(|_| conf.to_owned());
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<String> = command
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let (its_conf, its_channel) = followed_by(&words)?;
        let its_conf = its_conf.canonicalize().unwrap_or(its_conf);
        (its_conf == wanted && its_channel.as_deref() == channel).then_some(pid)
    })
}

/// The configuration and the channel of a command, if that is a `sync_client` that follows one.
fn followed_by(words: &[String]) -> Option<(PathBuf, Option<String>)> {
    let (program, arguments) = words.split_first()?;
    if Path::new(program).file_name()? != "sync_client" {
        return None;
    }
    let (mut conf, mut channel, mut follows) = (PathBuf::from("/etc/imapd.conf"), None, false);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(letters) = argument.strip_prefix('-') else { continue };
        for (at, letter) in letters.char_indices() {
            // The letters of its getopt that want a value, which may stand right behind them.
            if "CnSftdFwp".contains(letter) {
                let rest = &letters[at + 1..];
                let value = match rest.is_empty() {
                    true => arguments.next().cloned().unwrap_or_default(),
                    false => rest.to_owned(),
                };
                match letter {
                    'C' => conf = value.into(),
                    'n' => channel = Some(value),
                    _ => {}
                }
                break;
            }
            follows |= matches!(letter, 'r' | 'R');
        }
    }
    follows.then_some((conf, channel))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_follows_a_channel_is_known_by_its_arguments() {
        for (command, expected) in [
            ("/usr/lib/cyrus/bin/sync_client -r", Some(("/etc/imapd.conf", None))),
            ("sync_client -C /x.conf -v -R -n far -d 3", Some(("/x.conf", Some("far")))),
            ("sync_client -C/x.conf -vrnfar", Some(("/x.conf", Some("far")))),
            ("sync_client -C /x.conf -u glad", None),
            ("sync_client -S host -n r", None),
            ("sync_server -r", None),
            ("", None),
        ] {
            let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
            let expected = expected.map(|(conf, channel): (&str, Option<&str>)| {
                (PathBuf::from(conf), channel.map(str::to_owned))
            });
            assert_eq!(followed_by(&words), expected, "{command}");
        }
    }
}

//! What Cyrus insists on before it starts, as far as places are concerned.

use super::{ConfError, ImapdConf, Meta, Setting, VirtDomains};

/// The switches that this crate looks at.
const SWITCHES: &[&str] = &[
    "altnamespace",
    "archive_enabled",
    "conversations",
    "fulldirhash",
    "global_lock",
    "hashimapspool",
    "mailbox_legacy_dirs",
    "sieveusehomedir",
    "sync_log",
    "unixhierarchysep",
    "username_tolower",
];

impl ImapdConf {
    /// Judges the options that are looked at, once, so that reading them later cannot fail.
    pub(super) fn checked(mut self) -> Result<Self, ConfError> {
        if self.get("configdirectory").is_none() {
            return Err(ConfError::Missing { file: self.label, key: "configdirectory" });
        }
        for key in SWITCHES {
            if let Some((key, setting)) = self.setting(key)
                && switch(&setting.value).is_none()
            {
                let (key, value) = (key.to_owned(), printable(&setting.value));
                return Err(ConfError::NotASwitch { place: setting.place.clone(), key, value });
            }
        }
        if let Some((key, setting)) = self.setting("virtdomains")
            && virtdomains(&setting.value).is_none()
        {
            return Err(unknown_word(key, setting, &setting.value, "off, userid or on"));
        }
        self.defaultpartition = self.read_defaultpartition()?;
        self.metapartition_files = self.read_metapartition_files()?;
        Ok(self)
    }

    fn read_defaultpartition(&self) -> Result<Option<String>, ConfError> {
        let Some((_, setting)) = self.setting("defaultpartition") else {
            return Ok(None);
        };
        let value = printable(&setting.value);
        if value.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(Some(value.to_ascii_lowercase()));
        }
        Err(ConfError::PartitionName { place: setting.place.clone(), value })
    }

    fn read_metapartition_files(&self) -> Result<Vec<Meta>, ConfError> {
        let Some((key, setting)) = self.setting("metapartition_files") else {
            return Ok(Vec::new());
        };
        let words = setting.value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let metas = words.map(|word| {
            Meta::ALL.into_iter().find(|meta| meta.word().as_bytes() == word).ok_or_else(|| {
                let allowed = Meta::ALL.map(Meta::word).join(", ");
                unknown_word(key, setting, word, &allowed)
            })
        });
        metas.collect()
    }
}

/// Cyrus looks at the first letter or two only (config_parse_switch).
pub(super) fn switch(value: &[u8]) -> Option<bool> {
    match value {
        [b'0' | b'n' | b'f', ..] | [b'o', b'f', ..] => Some(false),
        [b'1' | b'y' | b't', ..] | [b'o', b'n', ..] => Some(true),
        _ => None,
    }
}

pub(super) fn virtdomains(value: &[u8]) -> Option<VirtDomains> {
    match value {
        b"off" | b"0" | b"no" | b"f" | b"false" => Some(VirtDomains::Off),
        b"on" | b"1" | b"yes" | b"t" | b"true" => Some(VirtDomains::On),
        b"userid" => Some(VirtDomains::Userid),
        _ => None,
    }
}

fn unknown_word(key: &str, setting: &Setting, word: &[u8], allowed: &str) -> ConfError {
    ConfError::UnknownWord {
        place: setting.place.clone(),
        key: key.to_owned(),
        value: printable(word),
        allowed: allowed.to_owned(),
    }
}

fn printable(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

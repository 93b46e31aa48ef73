//! Seals plates and openids for the disk, and makes the keyed tags by which they are found again.
//!
//! AES-256-GCM with the key's number in front; HMAC-SHA-256 for tags. The key file lies outside the data directory. No SQL here.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use aws_lc_rs::rand;

use crate::domain::member::{MemberKey, Openid};
use crate::domain::plate::Plate;

/// Bytes of a tag: 128 bits of an HMAC are beyond any chance meeting.
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const CHECK: &str = "parksync";

/// The keys that protect personal data at rest.
pub struct Vault {
    seal_keys: BTreeMap<u8, LessSafeKey>,
    newest: u8,
    tag_key: hmac::Key,
}

/// Why a vault key or a sealed value is unusable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VaultError {
    /// A line of the key file is no key.
    #[error(
        "line {line} of the vault key file is no key: expected 64 hex characters, with `NUMBER:` (1-255) in front when there are several"
    )]
    Line {
        /// The line, from 1.
        line: usize,
    },
    /// The file holds no key.
    #[error(
        "the vault key file is empty: write 64 random hex characters into it, for example with `openssl rand -hex 32`"
    )]
    Empty,
    /// Two lines have one number.
    #[error("the vault key file has two keys with the number {number}")]
    Twice {
        /// The number.
        number: u8,
    },
    /// A stored value cannot be opened.
    #[error(
        "a stored value cannot be opened: it was sealed with key {key}; is the vault key file the one of this database?"
    )]
    Open {
        /// The number of the key that sealed it.
        key: u8,
    },
}

impl Vault {
    /// Reads a key file: one key of 64 hex characters, or several lines `NUMBER:KEY`.
    ///
    /// The highest number seals; all open; the lowest makes the tags, so that look-ups survive a new key.
    ///
    /// # Errors
    /// A line is no key, a number comes twice, or there is none at all.
    pub fn from_key_file(text: &str) -> Result<Self, VaultError> {
        let mut masters = BTreeMap::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let bad = VaultError::Line { line: index + 1 };
            let (number, key) = match line.trim().split_once(':') {
                Some((number, key)) => (number.parse().ok().filter(|number| *number > 0), key),
                None => (Some(1), line.trim()),
            };
            let (Some(number), Some(key)) = (number, unhex(key.trim())) else {
                return Err(bad);
            };
            if masters
                .insert(number, hmac::Key::new(hmac::HMAC_SHA256, &key))
                .is_some()
            {
                return Err(VaultError::Twice { number });
            }
        }
        let (Some((_, oldest)), Some((newest, _))) = (masters.first_key_value(), masters.last_key_value()) else {
            return Err(VaultError::Empty);
        };
        let tag_key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(oldest, b"parksync tag").as_ref());
        let seal_keys = masters
            .iter()
            .map(|(number, master)| (*number, seal_key(master)))
            .collect();
        Ok(Self {
            newest: *newest,
            seal_keys,
            tag_key,
        })
    }

    /// The numbers of all keys.
    pub fn key_numbers(&self) -> impl Iterator<Item = u8> {
        self.seal_keys.keys().copied()
    }

    /// Seals a known text with one of the keys, to recognise that key by later.
    ///
    /// # Panics
    /// There is no key of this number.
    #[must_use]
    pub fn seal_check(&self, number: u8) -> Vec<u8> {
        self.seal_with(number, b"check", CHECK)
    }

    /// Whether a check opens, with the key that its first byte names.
    #[must_use]
    pub fn opens_check(&self, sealed: &[u8]) -> bool {
        self.open(b"check", sealed).is_ok_and(|text| text == CHECK)
    }

    /// The key under which a plate is looked up.
    #[must_use]
    pub fn plate_tag(&self, plate: &Plate) -> Tag {
        self.tag(&["plate", plate.expose()])
    }

    /// The key under which a member is looked up.
    #[must_use]
    pub fn member_tag(&self, member: &MemberKey) -> Tag {
        self.tag(&["member", &member.circle, member.appid.as_str(), member.openid.expose()])
    }

    /// A keyed digest of several texts. Their borders count.
    #[must_use]
    pub fn tag(&self, parts: &[&str]) -> Tag {
        let mut context = hmac::Context::with_key(&self.tag_key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG_BYTES]);
        tag
    }

    /// Seals a plate for the disk.
    #[must_use]
    pub fn seal_plate(&self, plate: &Plate) -> Vec<u8> {
        self.seal(b"plate", plate.expose())
    }

    /// Opens a stored plate.
    ///
    /// # Errors
    /// The key is not here, or the value was changed.
    pub fn open_plate(&self, sealed: &[u8]) -> Result<Plate, VaultError> {
        self.open(b"plate", sealed).map(Plate::from_stored)
    }

    /// Seals an openid for the disk.
    #[must_use]
    pub fn seal_openid(&self, openid: &Openid) -> Vec<u8> {
        self.seal(b"openid", openid.expose())
    }

    /// Opens a stored openid.
    ///
    /// # Errors
    /// The key is not here, or the value was changed.
    pub fn open_openid(&self, sealed: &[u8]) -> Result<Openid, VaultError> {
        let key = sealed.first().copied().unwrap_or(0);
        Openid::parse(&self.open(b"openid", sealed)?).map_err(|_| VaultError::Open { key })
    }

    fn seal(&self, purpose: &'static [u8], text: &str) -> Vec<u8> {
        self.seal_with(self.newest, purpose, text)
    }

    fn seal_with(&self, number: u8, purpose: &'static [u8], text: &str) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce).expect("the system's random source works");
        let mut sealed = Vec::with_capacity(1 + NONCE_BYTES + text.len() + AES_256_GCM.tag_len());
        sealed.push(number);
        sealed.extend_from_slice(&nonce);
        let mut body = text.as_bytes().to_vec();
        self.seal_keys[&number]
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(purpose), &mut body)
            .expect("a short text can be sealed");
        sealed.append(&mut body);
        sealed
    }

    fn open(&self, purpose: &'static [u8], sealed: &[u8]) -> Result<String, VaultError> {
        let key = sealed.first().copied().unwrap_or(0);
        let bad = || VaultError::Open { key };
        let (nonce, body) = sealed
            .get(1..)
            .and_then(|rest| rest.split_first_chunk::<NONCE_BYTES>())
            .ok_or_else(bad)?;
        let mut body = body.to_vec();
        let opened = self
            .seal_keys
            .get(&key)
            .ok_or_else(bad)?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(purpose), &mut body)
            .map_err(|_| bad())?;
        String::from_utf8(opened.to_vec()).map_err(|_| bad())
    }
}

/// A keyed digest, as stored.
pub type Tag = [u8; TAG_BYTES];

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("keys", &self.seal_keys.len())
            .finish_non_exhaustive()
    }
}

fn seal_key(master: &hmac::Key) -> LessSafeKey {
    let derived = hmac::sign(master, b"parksync seal");
    LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, derived.as_ref()).expect("an HMAC-SHA-256 has the length of the key"),
    )
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    let bytes = text.as_bytes();
    if bytes.len() != 64 || !bytes.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const OTHER: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn plate() -> Plate {
        Plate::from_stored("粤B00000".to_owned())
    }

    #[test]
    fn what_is_sealed_opens_again_and_shows_nothing() {
        let vault = Vault::from_key_file(KEY).unwrap();
        let sealed = vault.seal_plate(&plate());

        assert_eq!(vault.open_plate(&sealed).unwrap(), plate());
        assert!(!sealed.windows(6).any(|window| window == b"B00000"));
    }

    #[test]
    fn a_new_key_still_opens_and_finds_what_the_old_one_sealed() {
        let old = Vault::from_key_file(KEY).unwrap();
        let both = Vault::from_key_file(&format!("1:{KEY}\n2:{OTHER}\n")).unwrap();

        assert_eq!(both.open_plate(&old.seal_plate(&plate())).unwrap(), plate());
        assert_eq!(both.plate_tag(&plate()), old.plate_tag(&plate()));
        assert_eq!(both.seal_plate(&plate())[0], 2);
    }

    #[test]
    fn another_key_a_changed_byte_or_another_purpose_does_not_open() {
        let vault = Vault::from_key_file(KEY).unwrap();
        let mut sealed = vault.seal_plate(&plate());

        assert_eq!(
            Vault::from_key_file(OTHER).unwrap().open_plate(&sealed),
            Err(VaultError::Open { key: 1 })
        );
        assert!(vault.open_openid(&sealed).is_err());
        *sealed.last_mut().unwrap() ^= 1;
        assert!(vault.open_plate(&sealed).is_err());
        assert!(vault.open_plate(&[]).is_err());
    }

    #[test]
    fn a_bad_key_file_is_told_by_line() {
        assert_eq!(
            Vault::from_key_file(&format!("1:{KEY}\n2:short")).unwrap_err(),
            VaultError::Line { line: 2 }
        );
        assert_eq!(Vault::from_key_file("\n").unwrap_err(), VaultError::Empty);
        assert_eq!(
            Vault::from_key_file(&format!("{KEY}\n{KEY}")).unwrap_err(),
            VaultError::Twice { number: 1 }
        );
    }
}

//! PEM text to DER blocks, as tolerant about white space and surrounding text as real key files need.
//!
//! Lives here: finding and decoding blocks. Does not live here: what a block means (`keys`, the only caller).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::keys::KeyError;

/// One block. The bytes are wiped on drop: they may be a private key.
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) der: Zeroizing<Vec<u8>>,
}

/// Reads every block of a PEM text; at least one, or the text is no PEM.
pub(crate) fn blocks(pem: &[u8]) -> Result<Vec<Block>, KeyError> {
    const BEGIN: &str = "-----BEGIN ";
    let text = std::str::from_utf8(pem).map_err(|_| KeyError::NotPem("it is not text"))?;
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let (label, body) = rest[at + BEGIN.len()..]
            .split_once("-----")
            .ok_or(KeyError::NotPem("a BEGIN line is cut short"))?;
        let (body, after) = body
            .split_once(&format!("-----END {label}-----"))
            .ok_or(KeyError::NotPem("the END line is missing"))?;
        let body: Zeroizing<String> = Zeroizing::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        if body.starts_with("Proc-Type:") {
            return Err(KeyError::Encrypted);
        }
        let der = STANDARD
            .decode(body.as_bytes())
            .map_err(|_| KeyError::NotPem("a block is not base64"))?;
        blocks.push(Block {
            label: label.to_owned(),
            der: Zeroizing::new(der),
        });
        rest = after;
    }
    if blocks.is_empty() {
        return Err(KeyError::NotPem("there is no BEGIN line"));
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pem: &str) -> Vec<(String, Vec<u8>)> {
        blocks(pem.as_bytes())
            .unwrap()
            .into_iter()
            .map(|block| (block.label, block.der.to_vec()))
            .collect()
    }

    #[test]
    fn white_space_and_text_around_do_not_matter() {
        let expected = vec![("X".to_owned(), b"hello!".to_vec())];

        for pem in [
            "-----BEGIN X-----\naGVs\nbG8h\n-----END X-----\n",
            "-----BEGIN X-----\r\naGVsbG8h\r\n-----END X-----",
            "Bag Attributes\n  friendlyName: a\n-----BEGIN X-----\naGVsbG8h\n-----END X-----\ntrailing",
        ] {
            assert_eq!(read(pem), expected);
        }
    }

    #[test]
    fn several_blocks_come_in_order() {
        let pem = "-----BEGIN A-----\nYQ==\n-----END A-----\n-----BEGIN B-----\nYg==\n-----END B-----\n";

        assert_eq!(
            read(pem),
            [("A".to_owned(), b"a".to_vec()), ("B".to_owned(), b"b".to_vec())]
        );
    }

    #[test]
    fn damage_is_an_error() {
        for pem in [
            "",
            "hello",
            "-----BEGIN X",
            "-----BEGIN X-----\nYQ==\n",
            "-----BEGIN X-----\nY*==\n-----END X-----",
        ] {
            assert!(matches!(blocks(pem.as_bytes()), Err(KeyError::NotPem(_))), "{pem}");
        }
        assert!(blocks(&[0x30, 0x82, 0xff]).is_err());
    }
}

//! Who may do what: API keys and their roles.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::problem::Problem;
pub use crate::config::Role;

/// The API keys, as digests.
#[derive(Debug, Default)]
pub struct Access(Vec<(Vec<u8>, Role)>);

impl Access {
    /// Knows these keys.
    pub fn new(keys: impl IntoIterator<Item = (String, Role)>) -> Self {
        Self(keys.into_iter().map(|(key, role)| (fingerprint(&key), role)).collect())
    }

    /// Checks the key of a request: `Authorization: Bearer KEY`, the password of `Authorization: Basic`, or `?key=KEY` for
    /// cameras that can send nothing but a URL.
    pub(super) fn check(&self, headers: &HeaderMap, query: Option<&str>, needed: Role) -> Result<(), Problem> {
        const HOW: &str = "send it as `Authorization: Bearer KEY`, as the password of Basic, or as `?key=KEY`";
        let Some(presented) = presented(headers, query) else {
            return Err(
                Problem::new(401, "no-api-key", format!("this path needs an API key: {HOW}")).field("Authorization"),
            );
        };
        let presented = fingerprint(&presented);
        let role = self
            .0
            .iter()
            .find(|(key, _)| verify_slices_are_equal(key, &presented).is_ok())
            .map(|(_, role)| *role);
        match (role, needed) {
            (Some(Role::Admin), _) | (Some(Role::Gate), Role::Gate) => Ok(()),
            (Some(Role::Gate), Role::Admin) => Err(Problem::new(
                403,
                "not-allowed",
                "this API key has the role `gate`; the path needs `admin`",
            )
            .field("Authorization")),
            (None, _) => {
                Err(Problem::new(401, "wrong-api-key", "no such API key is configured").field("Authorization"))
            }
        }
    }
}

fn presented(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    if let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        let (scheme, rest) = value.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(rest.trim().to_owned());
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
            return decoded.split_once(':').map(|(_, password)| password.to_owned());
        }
    }
    form_urlencoded::parse(query?.as_bytes())
        .find(|(name, _)| name == "key")
        .map(|(_, key)| key.into_owned())
}

fn fingerprint(key: &str) -> Vec<u8> {
    digest(&SHA256, key.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_from_any_of_its_places() {
        let access = Access::new([("gate-key-gate-key-gate-key".to_owned(), Role::Gate)]);
        let basic = STANDARD.encode("camera:gate-key-gate-key-gate-key");
        let headers = |value: String| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);

        assert!(
            access
                .check(
                    &headers("Bearer gate-key-gate-key-gate-key".to_owned()),
                    None,
                    Role::Gate
                )
                .is_ok()
        );
        assert!(
            access
                .check(&headers(format!("basic {basic}")), None, Role::Gate)
                .is_ok()
        );
        assert!(
            access
                .check(
                    &HeaderMap::new(),
                    Some("a=b&key=gate-key-gate-key-gate-key"),
                    Role::Gate
                )
                .is_ok()
        );
        assert!(
            access
                .check(&HeaderMap::new(), Some("key=gate-key"), Role::Gate)
                .is_err()
        );
        assert!(
            access
                .check(
                    &headers("Bearer gate-key-gate-key-gate-key".to_owned()),
                    None,
                    Role::Admin
                )
                .is_err()
        );
        assert!(access.check(&HeaderMap::new(), None, Role::Gate).is_err());
    }
}

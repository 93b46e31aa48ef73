//! What `client["…"]` hands out references to.
//!
//! `Index` must return a reference, so the value has to live in the client. Each path is kept once, in a table that only
//! grows and never moves. It is bounded twice: only text that is part of the program (`&'static str`) can be a key, so a
//! path made from an id does not compile here, and the table has a fixed number of places.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::OnceLock;

/// More than APIv3 has endpoints.
const PLACES: usize = 1024;

/// An append-only table, read without a lock. Made at first use: most programs never index.
pub(crate) struct Indexed<T> {
    places: OnceLock<Box<[Place<T>]>>,
    full: OnceLock<T>,
}

type Place<T> = OnceLock<(&'static str, T)>;

impl<T> Indexed<T> {
    pub(crate) fn new() -> Indexed<T> {
        Indexed {
            places: OnceLock::new(),
            full: OnceLock::new(),
        }
    }

    /// The value of `path`, made on first sight with `make(Some(path))`; that of `make(None)` when the table is full.
    pub(crate) fn get(&self, path: &'static str, make: impl Fn(Option<&'static str>) -> T) -> &T {
        let places = self
            .places
            .get_or_init(|| (0..PLACES).map(|_| OnceLock::new()).collect());
        let start = start(path);
        for offset in 0..PLACES {
            let (held, value) = places[(start + offset) % PLACES].get_or_init(|| (path, make(Some(path))));
            if *held == path {
                return value;
            }
        }
        self.full.get_or_init(|| make(None))
    }
}

fn start(path: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    usize::try_from(hasher.finish() % PLACES as u64).expect("a remainder of 1024 fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaked(n: usize) -> &'static str {
        Box::leak(format!("v3/{n}").into_boxed_str())
    }

    #[test]
    fn a_path_is_kept_once_and_stays_where_it_is() {
        let table = Indexed::new();
        let first = table.get(leaked(1), |path| path.map(str::to_owned));

        for n in 0..500 {
            assert_eq!(
                table.get(leaked(n), |path| path.map(str::to_owned)).as_deref(),
                Some(leaked(n))
            );
        }

        assert!(std::ptr::eq(
            first,
            table.get(leaked(1), |_| panic!("it is held already"))
        ));
    }

    #[test]
    fn a_full_table_hands_out_the_refusal_and_still_knows_the_rest() {
        let table = Indexed::new();
        for n in 0..PLACES {
            table.get(leaked(n), |path| path.map(str::to_owned));
        }

        assert_eq!(table.get("v3/one-too-many", |path| path.map(str::to_owned)), &None);
        assert_eq!(
            table.get(leaked(7), |path| path.map(str::to_owned)).as_deref(),
            Some("v3/7")
        );
    }
}

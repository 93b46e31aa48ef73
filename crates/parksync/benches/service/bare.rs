//! What this machine does without us: rows into SQLite, RSA signatures. Figures stand beside these.

use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::RSA_PKCS1_SHA256;

/// Rows of 150 bytes into a table with a key that is looked up, a thousand to a commit, `synchronous=FULL`.
pub(crate) fn inserts() -> f64 {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut db = rusqlite::Connection::open(folder.path().join("bare.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE row (id INTEGER PRIMARY KEY, key BLOB UNIQUE, text TEXT)")
        .unwrap();
    let began = Instant::now();
    for _ in 0..200 {
        let transaction = db.transaction().unwrap();
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO row (key, text) VALUES (?1, ?2)")
                .unwrap();
            for _ in 0..1000 {
                let mut key = [0; 16];
                aws_lc_rs::rand::fill(&mut key).unwrap();
                insert.execute((key, "x".repeat(120))).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    200_000.0 / began.elapsed().as_secs_f64()
}

/// RSA-2048 signatures a second, on as many threads as there are cores.
pub(crate) fn signs() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let mut signature = vec![0; key.public_modulus_len()];
                for _ in 0..2000 {
                    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"message", &mut signature)
                        .unwrap();
                }
            });
        }
    });
    cores as f64 * 2000.0 / began.elapsed().as_secs_f64()
}

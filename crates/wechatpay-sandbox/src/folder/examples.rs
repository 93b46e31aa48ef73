//! One small program per language that reports a car, with the right ids in it, to start a client from.

use crate::Sandbox;

/// File name within `examples/`, and what is in it.
const FILES: [(&str, &str); 8] = [
    ("park.sh", include_str!("examples/park.sh")),
    ("park.php", include_str!("examples/park.php")),
    ("park.mjs", include_str!("examples/park.mjs")),
    ("park.py", include_str!("examples/park.py")),
    ("park.go", include_str!("examples/park.go")),
    ("Park.java", include_str!("examples/Park.java")),
    ("rust/Cargo.toml", include_str!("examples/rust/Cargo.toml")),
    ("rust/main.rs", include_str!("examples/rust/main.rs")),
];

/// The files with this sandbox's ids filled in.
pub(super) fn filled(sandbox: &Sandbox) -> impl Iterator<Item = (&'static str, String)> {
    let merchant = sandbox.merchant();
    let brandid = merchant.brandid.to_string();
    let ids = [
        ("{{mchid}}", merchant.mchid.as_str()),
        ("{{serial_no}}", &merchant.serial_no),
        ("{{public_key_id}}", &merchant.public_key_id),
        ("{{brandid}}", &brandid),
        ("{{appid}}", &merchant.appid),
        ("{{base_url}}", sandbox.base_url()),
        ("{{http_url}}", sandbox.http_url()),
    ]
    .map(|(name, id)| (name, id.to_owned()));
    FILES.iter().map(move |(name, text)| {
        let filled = ids
            .iter()
            .fold((*text).to_owned(), |text, (name, id)| text.replace(name, id));
        (*name, filled)
    })
}

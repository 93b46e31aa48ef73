//! The folder that a client starts from.

use std::fs;

use wechatpay_sandbox::{FolderError, Sandbox};

use crate::client::sign;

#[tokio::test]
async fn the_folder_holds_what_the_configuration_names() {
    let sandbox = Sandbox::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();

    let folder = sandbox.write_folder(dir.path().join("new")).unwrap();

    let config = fs::read_to_string(&folder.config).unwrap();
    let merchant = sandbox.merchant();
    for value in [
        &merchant.mchid,
        &merchant.serial_no,
        &merchant.public_key_id,
        &merchant.appid,
        sandbox.base_url(),
    ] {
        assert!(config.contains(&format!("\"{value}\"")), "{value}");
    }
    let files: Vec<_> = config.lines().filter(|line| line.contains("_file")).collect();
    assert_eq!(files.len(), 8);
    for line in files {
        let file = line.split('"').nth(1).unwrap();
        assert!(!fs::read_to_string(folder.dir.join(file)).unwrap().is_empty(), "{file}");
    }
    let key = fs::read_to_string(folder.dir.join("keys/apiclient_key.pem")).unwrap();
    assert_eq!(sign(&key, b"text"), sign(&merchant.private_key_pem, b"text"));
    let vault = fs::read_to_string(folder.dir.join("keys/vault.key")).unwrap();
    assert!(vault.len() == 64 && vault.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert!(fs::read_to_string(&folder.gate_key).unwrap().len() >= 32);
}

#[cfg(unix)]
#[tokio::test]
async fn keys_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();

    let folder = sandbox.write_folder(dir.path()).unwrap();

    for entry in fs::read_dir(folder.dir.join("keys")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            entry.path()
        );
    }
}

#[tokio::test]
async fn a_second_start_replaces_the_merchants_keys_and_keeps_the_services() {
    let (first, second) = (
        Sandbox::start().await.unwrap(),
        Sandbox::builder().fresh_keys().start().await.unwrap(),
    );
    let dir = tempfile::tempdir().unwrap();
    let keys = ["keys/apiclient_key.pem", "keys/vault.key", "keys/gate.key"];
    let read = || keys.map(|key| fs::read_to_string(dir.path().join(key)).unwrap());

    first.write_folder(dir.path()).unwrap();
    let before = read();
    second.write_folder(dir.path()).unwrap();
    let after = read();

    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
}

#[tokio::test]
async fn somebody_elses_folder_is_left_alone() {
    let sandbox = Sandbox::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("keys/apiclient_key.pem");
    fs::create_dir(dir.path().join("keys")).unwrap();
    fs::write(&own, "real").unwrap();

    let refused = sandbox.write_folder(dir.path());
    fs::write(dir.path().join("parksync.toml"), "[server]\n").unwrap();
    let refused_again = sandbox.write_folder(dir.path());

    assert!(matches!(refused, Err(FolderError::NotOurs(_))));
    assert!(matches!(refused_again, Err(FolderError::NotOurs(_))));
    assert_eq!(fs::read_to_string(own).unwrap(), "real");
}

#[tokio::test]
async fn the_examples_have_every_id_filled_in() {
    let sandbox = Sandbox::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();

    let examples = sandbox.write_folder(dir.path()).unwrap().dir.join("examples");

    let mut files = 0;
    for folder in [examples.clone(), examples.join("rust")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                assert!(!fs::read_to_string(&path).unwrap().contains("{{"), "{path:?}");
                files += 1;
            }
        }
    }
    assert_eq!(files, 8);
}

#[tokio::test]
async fn kept_keys_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.json");
    let first = Sandbox::builder().kept_keys(&path).start().await.unwrap();
    first.keep_keys(&path).unwrap();
    let again = Sandbox::builder().kept_keys(&path).start().await.unwrap();
    let other = Sandbox::start().await.unwrap();

    let ids = |sandbox: &Sandbox| {
        let merchant = sandbox.merchant();
        (
            merchant.mchid.clone(),
            merchant.private_key_pem.clone(),
            merchant.public_key_pem.clone(),
            merchant.platform_certificate_pem.clone(),
            sandbox.ca_pem().to_owned(),
        )
    };
    assert_eq!(ids(&first), ids(&again));
    assert_ne!(ids(&first), ids(&other));
    let reply = crate::client::report(&again, &crate::client::parking(&again)).await;
    assert!(reply.verifies(&first));
    fs::write(&path, "{}").unwrap();
    let refused = Sandbox::builder().kept_keys(&path).start().await.unwrap_err();
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert!(cause.contains("identity.json"), "{cause}");
}

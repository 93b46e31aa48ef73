//! Writes a folder that a client can start from: key files, a ready `parksync.toml`, and an example per language.
//!
//! Only files; nothing here runs anything. Called by the program and by Parksync's `demo`.

mod examples;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Sandbox;
use crate::seal;

/// What was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Folder {
    /// The folder itself.
    pub dir: PathBuf,
    /// `parksync.toml`.
    pub config: PathBuf,
    /// `keys/gate.key`: what a gate sends to Parksync.
    pub gate_key: PathBuf,
    /// `keys/admin.key`: what an operator sends to Parksync.
    pub admin_key: PathBuf,
    /// `keys/sandbox-ca.pem`: what a client must trust.
    pub ca: PathBuf,
}

/// The folder could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// There are files that the sandbox did not write: they may be real keys.
    #[error("{} is not the sandbox's: give an empty folder, or one it wrote before", .0.display())]
    NotOurs(PathBuf),
    /// The system refused.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Sandbox {
    /// Writes key files, `parksync.toml` and `examples/` into `dir`, which is created when missing.
    ///
    /// Files of an earlier sandbox are overwritten, because their keys died with it. `vault.key`, `gate.key` and `admin.key`
    /// belong to the service and stay: without its vault key it could not read its own database any more.
    ///
    /// # Errors
    /// When the folder holds a `parksync.toml` or a `keys/apiclient_key.pem` that the sandbox did not write.
    pub fn write_folder(&self, dir: impl AsRef<Path>) -> Result<Folder, FolderError> {
        let dir = dir.as_ref().to_owned();
        let folder = Folder {
            config: dir.join("parksync.toml"),
            gate_key: dir.join("keys/gate.key"),
            admin_key: dir.join("keys/admin.key"),
            ca: dir.join("keys/sandbox-ca.pem"),
            dir,
        };
        folder.guard()?;
        for part in ["keys", "data", "examples/rust"] {
            make_private_dir(&folder.dir.join(part))?;
        }
        let merchant = self.merchant();
        let keys = folder.dir.join("keys");
        let mut written = vec![
            (keys.join("apiclient_key.pem"), merchant.private_key_pem.clone()),
            (keys.join("apiclient_cert.pem"), merchant.certificate_pem.clone()),
            (keys.join("apiv3.key"), merchant.api_v3_key.clone()),
            (keys.join("pub_key.pem"), merchant.public_key_pem.clone()),
            (
                keys.join("platform_cert.pem"),
                merchant.platform_certificate_pem.clone(),
            ),
            (folder.ca.clone(), self.ca_pem().to_owned()),
            (folder.config.clone(), self.parksync_toml()),
        ];
        let services = [
            (
                keys.join("vault.key"),
                seal::hex_upper(&seal::random::<32>()).to_lowercase(),
            ),
            (folder.gate_key.clone(), seal::random_text(40)),
            (folder.admin_key.clone(), seal::random_text(40)),
        ];
        written.extend(services.into_iter().filter(|(path, _)| !path.exists()));
        written.extend(examples::filled(self).map(|(name, text)| (folder.dir.join("examples").join(name), text)));
        for (path, text) in written {
            replace(&path, &text).map_err(|source| FolderError::Write { path, source })?;
        }
        Ok(folder)
    }

    /// Writes ids and keys to a file, private ones included, for [`Builder::kept_keys`](crate::Builder::kept_keys).
    ///
    /// # Errors
    /// When the system refuses.
    pub fn keep_keys(&self, path: impl AsRef<Path>) -> Result<(), FolderError> {
        let path = path.as_ref();
        let text = serde_json::to_string_pretty(&self.platform.world.identity.kept);
        let text = text.expect("texts and times always serialise");
        replace(path, &text).map_err(|source| FolderError::Write {
            path: path.to_owned(),
            source,
        })
    }

    fn parksync_toml(&self) -> String {
        let merchant = self.merchant();
        format!(
            r#"{MARK}
# The merchant's keys die with the sandbox that wrote them; start it again and this file is written anew.

[server]
listen = "127.0.0.1:8080"

[store]
path = "data/parksync.db"

[vault]
key_file = "keys/vault.key"

[[api_key]]
name = "gates"
role = "gate"
key_file = "keys/gate.key"

[[api_key]]
name = "operator"
role = "admin"
key_file = "keys/admin.key"

[[merchant]]
mchid = "{mchid}"
serial_no = "{serial_no}"
private_key_file = "keys/apiclient_key.pem"
api_v3_key_file = "keys/apiv3.key"
public_key_id = "{public_key_id}"
public_key_file = "keys/pub_key.pem"
certificate_files = ["keys/platform_cert.pem"]
base_url = "{base_url}"
ca_file = "keys/sandbox-ca.pem"

[[circle]]
id = "demo-mall"
merchant = "{mchid}"
brandid = {brandid}
appid = "{appid}"

[[lot]]
id = "P1"
circle = "demo-mall"
zone = "+08:00"

[[gate]]
lot = "P1"
id = "E1"
format = "vzenith-http"
direction = "in"

[[gate]]
lot = "P1"
id = "X1"
format = "vzenith-http"
direction = "out"
"#,
            mchid = merchant.mchid,
            serial_no = merchant.serial_no,
            public_key_id = merchant.public_key_id,
            base_url = self.base_url(),
            brandid = merchant.brandid,
            appid = merchant.appid,
        )
    }
}

impl Folder {
    /// Refuses a folder that could hold somebody's real keys.
    fn guard(&self) -> Result<(), FolderError> {
        let config = match fs::read(&self.config) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => {
                return Err(FolderError::Write {
                    path: self.config.clone(),
                    source,
                });
            }
        };
        match config {
            Some(text) if text.starts_with(MARK.as_bytes()) => Ok(()),
            Some(_) => Err(FolderError::NotOurs(self.config.clone())),
            None if self.dir.join("keys").exists() => Err(FolderError::NotOurs(self.dir.join("keys"))),
            None => Ok(()),
        }
    }
}

/// Readable by its owner only, from its first byte on.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

fn make_private_dir(path: &Path) -> Result<(), FolderError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| FolderError::Write {
        path: path.to_owned(),
        source,
    })
}

const MARK: &str = "# Written by wechatpay-sandbox.";

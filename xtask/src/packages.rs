//! Programs of the system that a step needs: found, installed, or named with the one command to type.
//!
//! Called by `main` before a step that would fail without one.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::run::Step;

/// A program and the Debian packages that bring it.
const PACKAGES: [(&str, &[&str]); 11] = [
    ("cc", &["gcc", "libc6-dev"]),
    ("npm", &["nodejs", "npm"]),
    ("nginx", &["nginx-light", "nginx-common"]),
    ("pip3", &["python3", "python3-pip"]),
    ("curl", &["curl"]),
    ("openssl", &["openssl"]),
    ("php", &["php-cli", "php-curl"]),
    ("go", &["golang-go"]),
    ("javac", &["default-jdk-headless"]),
    (POSTGRES, &["postgresql", "postgresql-client"]),
    // The page is Chinese first: without a font for it a screenshot shows boxes.
    ("chromium", &["chromium", "fonts-wqy-microhei"]),
];

/// Debian keeps this one off the path, one folder a version. The cluster that its package may start on port 5432 is nobody's business
/// here: tests start servers of their own, on ports and in folders of their own.
const POSTGRES: &str = "postgres";
const POSTGRES_FOLDER: &str = "/usr/lib/postgresql";
/// The oldest version that the service works with.
const POSTGRES_VERSION: u32 = 15;

/// What to do about a program.
#[derive(Debug, PartialEq, Eq)]
enum Remedy {
    Nothing,
    Install,
    Tell(String),
}

/// Makes sure that a program is there.
///
/// # Errors
///
/// If it is missing and cannot be installed; the text says what to type.
pub(crate) fn need(program: &str) -> Result<()> {
    let packages = PACKAGES
        .into_iter()
        .find(|(name, _)| *name == program)
        .map(|(_, packages)| packages);
    let itself = [program];
    let packages = packages.unwrap_or(&itself);
    match remedy(program, packages, is_there(program), on_path("apt-get"), is_root()) {
        Remedy::Nothing => Ok(()),
        Remedy::Tell(what) => bail!("{what}"),
        Remedy::Install => {
            eprintln!("{program} is missing; installing {}", packages.join(" "));
            ensure!(
                Step::program("apt-get", ["update"]).succeeds()?,
                "apt-get update failed"
            );
            let install = Step::program("apt-get", ["install", "--yes", "--no-install-recommends"]);
            let install = install
                .with("DEBIAN_FRONTEND", "noninteractive")
                .arguments(packages.iter().map(|package| (*package).to_owned()));
            ensure!(install.succeeds()?, "could not install {}", packages.join(" "));
            ensure!(
                is_there(program),
                "{program} is still missing after installing {}",
                packages.join(" ")
            );
            Ok(())
        }
    }
}

fn remedy(program: &str, packages: &[&str], found: bool, apt: bool, root: bool) -> Remedy {
    let packages = packages.join(" ");
    match (found, apt, root) {
        (true, _, _) => Remedy::Nothing,
        (false, true, true) => Remedy::Install,
        (false, true, false) => Remedy::Tell(format!(
            "{program} is missing; type: sudo apt-get install --yes {packages}"
        )),
        (false, false, _) => Remedy::Tell(format!(
            "{program} is missing; install it with your system's packages (Debian: {packages})"
        )),
    }
}

fn is_there(program: &str) -> bool {
    if program == POSTGRES {
        has_version(Path::new(POSTGRES_FOLDER), POSTGRES_VERSION)
    } else {
        on_path(program)
    }
}

/// Whether one of the folders, which are named by version, has a server that is new enough.
fn has_version(folder: &Path, oldest: u32) -> bool {
    let versions = std::fs::read_dir(folder).into_iter().flatten().flatten();
    versions
        .filter(|version| version.path().join("bin/postgres").is_file())
        .filter_map(|version| version.file_name().to_str()?.parse::<u32>().ok())
        .any(|version| version >= oldest)
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder: std::path::PathBuf| Path::is_file(&folder.join(program)))
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::{Remedy, has_version, need, on_path, remedy};

    #[test]
    fn a_missing_program_is_installed_or_named_with_its_command() {
        let remedy = |found, apt, root| remedy("cc", &["gcc", "libc6-dev"], found, apt, root);

        assert_eq!(remedy(true, true, true), Remedy::Nothing);
        assert_eq!(remedy(true, false, false), Remedy::Nothing);
        assert_eq!(remedy(false, true, true), Remedy::Install);
        let told = Remedy::Tell("cc is missing; type: sudo apt-get install --yes gcc libc6-dev".to_owned());
        assert_eq!(remedy(false, true, false), told);
        assert!(matches!(remedy(false, false, true), Remedy::Tell(what) if what.contains("your system's packages")));
    }

    #[test]
    fn a_program_that_is_there_needs_nothing() {
        assert!(on_path("cc") && need("cc").is_ok());
        assert!(!on_path("no-such-program-anywhere"));
    }

    #[test]
    fn a_server_is_found_by_its_version() {
        let folder = std::env::temp_dir().join(format!("xtask-versions-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("15/bin")).unwrap();
        std::fs::create_dir_all(folder.join("17")).unwrap();
        std::fs::write(folder.join("15/bin/postgres"), "").unwrap();

        assert!(has_version(&folder, 15));
        assert!(!has_version(&folder, 16), "of version 17 there are only leftovers");
        assert!(!has_version(&folder.join("15"), 1));
        std::fs::remove_dir_all(folder).unwrap();
    }
}

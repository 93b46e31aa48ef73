//! Installs the pre-commit hook.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};

const HOOK: &str = "\
#!/bin/sh
# Installed by `cargo xtask hooks`: the quick half of `cargo xtask check`.
cargo fmt --all --check && exec cargo xtask tidy
";

/// Installs the hook where git looks for it. A hook of somebody else's is left alone.
///
/// # Errors
///
/// If this is no git repository, or another hook is there, or it cannot be written.
pub(crate) fn install(repository: &Path) -> Result<ExitCode> {
    let hook = hooks_folder(repository)?.join("pre-commit");
    match std::fs::read_to_string(&hook) {
        Ok(text) if text != HOOK => bail!(
            "{} is there already; add `cargo xtask tidy` to it by hand",
            hook.display()
        ),
        Ok(_) | Err(_) => {}
    }
    write(&hook).with_context(|| format!("cannot write {}", hook.display()))?;
    println!("installed {}", hook.display());
    Ok(ExitCode::SUCCESS)
}

fn hooks_folder(repository: &Path) -> Result<PathBuf> {
    let git = git(["rev-parse", "--git-path", "hooks"])
        .current_dir(repository)
        .output()
        .context("cannot start git")?;
    ensure!(git.status.success(), "{} is not a git repository", repository.display());
    let folder = String::from_utf8(git.stdout).context("git names a folder that is not UTF-8")?;
    Ok(repository.join(folder.trim_end()))
}

/// Variables of an outer git, if this runs inside of a hook, must not lead to another repository.
fn git<const N: usize>(arguments: [&str; N]) -> Command {
    let mut git = Command::new("git");
    git.args(arguments).env_remove("GIT_DIR").env_remove("GIT_WORK_TREE");
    git
}

fn write(hook: &Path) -> std::io::Result<()> {
    if let Some(folder) = hook.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(hook, HOOK)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(hook, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{HOOK, git, install};

    #[test]
    fn installs_once_and_never_over_another_hook() {
        let folder = std::env::temp_dir().join(format!("xtask-hooks-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(git(["init", "--quiet"]).arg(&folder).status().unwrap().success());
        let hook = folder.join(".git/hooks/pre-commit");

        install(&folder).unwrap();
        install(&folder).unwrap();
        assert_eq!(std::fs::read_to_string(&hook).unwrap(), HOOK);

        std::fs::write(&hook, "#!/bin/sh\n").unwrap();
        let error = install(&folder).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
        assert_eq!(std::fs::read_to_string(&hook).unwrap(), "#!/bin/sh\n");

        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! Starts other programs and says so first.
//!
//! Knows no commands of its own. Called by `main` and `packages`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// One program to run.
pub(crate) struct Step {
    command: Command,
    shown: String,
}

impl Step {
    /// A cargo command in the repository, run by the cargo that runs this.
    pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut step = Self::of(&cargo, "cargo").arguments(arguments.map(str::to_owned));
        step.command.current_dir(repository());
        step
    }

    pub(crate) fn program<const N: usize>(program: &str, arguments: [&str; N]) -> Self {
        Self::of(OsStr::new(program), program).arguments(arguments.map(str::to_owned))
    }

    fn of(program: &OsStr, shown: &str) -> Self {
        Self {
            command: Command::new(program),
            shown: shown.to_owned(),
        }
    }

    pub(crate) fn arguments(mut self, arguments: impl IntoIterator<Item = String>) -> Self {
        for argument in arguments {
            self.shown.push(' ');
            self.shown.push_str(&argument);
            self.command.arg(argument);
        }
        self
    }

    /// Sets a variable for the program.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.shown = format!("{name}={value:?} {}", self.shown);
        self.command.env(name, value);
        self
    }

    /// Runs it and says whether it succeeded.
    pub(crate) fn succeeds(mut self) -> Result<bool> {
        eprintln!("$ {}", self.shown);
        let status = self.command.status();
        Ok(status
            .with_context(|| format!("cannot start `{}`", self.shown))?
            .success())
    }

    /// Becomes the program, so that its exit code, its signals and its last line are those of the command.
    #[cfg(unix)]
    pub(crate) fn become_it(mut self) -> Result<ExitCode> {
        use std::os::unix::process::CommandExt as _;

        eprintln!("$ {}", self.shown);
        Err(self.command.exec()).with_context(|| format!("cannot start `{}`", self.shown))
    }

    /// Runs the program to its end and passes its exit code on.
    #[cfg(not(unix))]
    pub(crate) fn become_it(mut self) -> Result<ExitCode> {
        eprintln!("$ {}", self.shown);
        let status = self
            .command
            .status()
            .with_context(|| format!("cannot start `{}`", self.shown))?;
        Ok(status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

/// The folder of the workspace: the one above this package's.
pub(crate) fn repository() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    package
        .as_deref()
        .and_then(Path::parent)
        .unwrap_or(Path::new("."))
        .to_owned()
}

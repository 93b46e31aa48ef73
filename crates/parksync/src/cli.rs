//! The command line: arguments in, exit code out. stdout is data, stderr is talk.

mod config;
mod doctor;
pub mod gate;
pub(crate) mod members;
mod migrate;
mod moving;
mod nodes;
mod outbox;
pub mod plate;
mod send;
mod serve;
mod visits;

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, LogFormat};

/// How a command ended. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Something that should not happen.
    Unexpected = 1,
    /// The command line, or the input it names, cannot be understood.
    Usage = 2,
    /// The settings, or a file they name.
    Configuration = 3,
    /// WeChat Pay refused.
    Refused = 4,
    /// Try again later: no connection, no answer, too busy.
    Later = 5,
    /// Done, but some of the input was bad and was left out.
    Partly = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What a failed command says: what happened, why, and what to type next.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    error: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<String>) -> Self {
        Self {
            exit,
            error: error.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The reader of our output went away (`| head`): that is the end of the work, and no word is worth saying.
    fn silent() -> Self {
        Self {
            exit: Exit::Done,
            error: String::new(),
            causes: Vec::new(),
            hint: None,
        }
    }

    fn text(&self) -> String {
        if self.error.is_empty() {
            return String::new();
        }
        let mut text = format!("error: {}\n", self.error);
        for cause in &self.causes {
            let _ = writeln!(text, "cause: {cause}");
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint:  {hint}");
        }
        text
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::silent();
        }
        Self::new(Exit::Unexpected, "cannot read the input or write the output").cause(error.to_string())
    }
}

#[derive(Debug, Parser)]
#[command(name = "parksync", version, about, long_about = None, max_term_width = 110, after_help = AFTER_HELP)]
struct Arguments {
    /// The settings file.
    #[arg(
        long,
        short,
        global = true,
        env = "PARKSYNC_CONFIG",
        default_value = "parksync.toml",
        value_name = "FILE"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Try it without an account:  parksync demo
Exit codes: 0 done, 1 unexpected, 2 usage, 3 settings, 4 refused by WeChat Pay, 5 try again later, 6 done in part";

#[derive(Debug, Subcommand)]
enum Command {
    /// Play a Saturday of a busy mall against the sandbox, and check every call
    Demo(crate::demo::DemoArgs),
    /// Play your own gates' events from a file against the sandbox, and check where every member's car ends
    Rehearse(crate::rehearse::RehearseArgs),
    /// Run the service: gate events in, WeChat Pay calls out
    Serve(serve::ServeArgs),
    /// Tell WeChat Pay one state directly, to try out credentials
    Send(send::SendArgs),
    /// Look after members and their plates
    Members {
        #[command(subcommand)]
        command: members::MembersCommand,
    },
    /// Look at what waits, is held or died, and send it again
    Outbox {
        #[command(subcommand)]
        command: outbox::OutboxCommand,
    },
    /// See which processes work on the database
    Nodes {
        #[command(subcommand)]
        command: nodes::NodesCommand,
    },
    /// Tell what became of a car or a member
    Visits {
        #[command(subcommand)]
        command: visits::VisitsCommand,
    },
    /// Try out messages of gates
    Gate {
        #[command(subcommand)]
        command: GateCommand,
    },
    /// Check plates
    Plate {
        #[command(subcommand)]
        command: PlateCommand,
    },
    /// Bring the database to the schema of this version
    Migrate,
    /// Carry a running installation from its SQLite file over to PostgreSQL, and compare both
    Move(moving::MoveArgs),
    /// Check keys, database, clocks and WeChat Pay, and say what is wrong, one line each
    Doctor(doctor::DoctorArgs),
    /// Look at the settings
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
enum GateCommand {
    /// Parse one message of a gate and print what it says, one JSON line per result
    Try(gate::TryArgs),
}

#[derive(Debug, Subcommand)]
enum PlateCommand {
    /// Read plates from standard input, one per line, and print a verdict on each as JSON
    Check,
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(arguments) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprint!("{}", failure.text());
            failure.exit.into()
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<Exit, Failure> {
    let path = arguments.config;
    match arguments.command {
        Command::Demo(demo) => runtime()?.block_on(crate::demo::run(&demo)),
        Command::Rehearse(rehearse) => runtime()?.block_on(crate::rehearse::run(&rehearse)),
        Command::Serve(serve) => {
            let config = load_with(&path, serve.settings())?;
            start_log(&config.log.level, config.log.format);
            runtime()?.block_on(serve::run(&config))
        }
        Command::Send(send) => {
            let config = load(&path)?;
            runtime()?.block_on(send::run(&config, &send))
        }
        Command::Members { command } => {
            let config = load(&path)?;
            runtime()?.block_on(members::run(&config, command))
        }
        Command::Outbox { command } => {
            let config = load(&path)?;
            runtime()?.block_on(outbox::run(&config, command))
        }
        Command::Nodes { command } => {
            let config = load(&path)?;
            runtime()?.block_on(nodes::run(&config, command))
        }
        Command::Visits { command } => {
            let config = load(&path)?;
            runtime()?.block_on(visits::run(&config, command))
        }
        Command::Gate {
            command: GateCommand::Try(arguments),
        } => {
            let tried = gate::run(
                &arguments,
                crate::clock::Clock::system().now(),
                std::io::stdout().lock(),
            )
            .map_err(|error| Failure::new(Exit::Usage, format!("{error:#}")))?;
            Ok(match tried {
                gate::Exit::Understood => Exit::Done,
                gate::Exit::NotUnderstood => Exit::Usage,
            })
        }
        Command::Plate {
            command: PlateCommand::Check,
        } => {
            plate::check(std::io::stdin().lock(), std::io::stdout().lock())?;
            Ok(Exit::Done)
        }
        Command::Migrate => {
            let config = load(&path)?;
            runtime()?.block_on(migrate::run(&config))
        }
        Command::Move(arguments) => {
            let config = load(&path)?;
            runtime()?.block_on(moving::run(&config, &arguments))
        }
        Command::Doctor(arguments) => {
            let config = load(&path)?;
            runtime()?.block_on(doctor::run(&config, &arguments))
        }
        Command::Config { command } => config::run(&path, &command),
    }
}

fn load(path: &std::path::Path) -> Result<Config, Failure> {
    load_with(path, None)
}

/// Loads the settings; what the command line says wins.
fn load_with(path: &std::path::Path, said: Option<(String, String)>) -> Result<Config, Failure> {
    crate::config::load(path, environment().chain(said)).map_err(|error| {
        let missing =
            matches!(&error, ConfigError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
        let failure = Failure::new(Exit::Configuration, error.to_string());
        if missing {
            failure.hint(
                "name your settings file with --config FILE; `parksync config print --default` shows every setting",
            )
        } else {
            failure.hint("`parksync config print --default` shows every setting with its meaning")
        }
    })
}

/// The settings in the environment. A value that is no text is refused where it is used, not here.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("PARKSYNC__"))?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Unexpected, "cannot start threads").cause(error.to_string()))
}

/// Sends the log to stderr. A level that cannot be read becomes `info`, since a log is better than none.
fn start_log(level: &str, format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Only the first log of a process counts; a second one would be refused, and that is fine.
    let _ = match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_sound() {
        super::Arguments::command().debug_assert();
    }
}

//! The stage of the demo and of rehearsals: the real service in this process, with a clock that is moved by hand, and the
//! sandbox that answers it over TLS. What is played on it, and what has to come out, is not decided here.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use wechatpay_sandbox::Sandbox;

use super::poster::Poster;
use crate::cli::{Exit, Failure, members};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::service::Service;
use crate::store::Counter;

/// How long the outbox may take to empty after the last car.
const DRAIN: Duration = Duration::from_secs(60);

/// Everything that runs.
pub(crate) struct Stage {
    pub(crate) sandbox: Sandbox,
    pub(crate) service: Service,
    pub(crate) clock: Clock,
    pub(crate) poster: Poster,
    config: Config,
    folder: tempfile::TempDir,
}

impl Stage {
    /// Starts all of it. `settings` gets the settings that the sandbox wrote and returns the ones to use.
    pub(crate) async fn set(settings: impl FnOnce(&str) -> String, opens_at: Timestamp) -> Result<Self, Failure> {
        let sandbox = Sandbox::start()
            .await
            .map_err(|error| broken("the sandbox does not start", &error))?;
        let folder = tempfile::tempdir()?;
        let written = sandbox
            .write_folder(folder.path())
            .map_err(|error| broken("cannot write the folder of the service", &error))?;
        // Two of them may run at one time.
        let text = std::fs::read_to_string(&written.config)?
            .replace("listen = \"127.0.0.1:8080\"", "listen = \"127.0.0.1:0\"");
        std::fs::write(&written.config, settings(&text))?;
        let config = config::load(&written.config, std::iter::empty())
            .map_err(|error| broken("the settings of the service are wrong", &error))?;
        let clock = Clock::by_hand(opens_at);
        let service = Service::start(&config, clock.clone())
            .await
            .map_err(|error| broken("the service does not start", &error))?;
        let gate_key = config::read_secret(&written.gate_key).map_err(|error| broken("no gate key", &error))?;
        let admin_key = config::read_secret(&written.admin_key).map_err(|error| broken("no admin key", &error))?;
        let poster = Poster::new(service.address(), gate_key, admin_key);
        Ok(Self {
            sandbox,
            service,
            clock,
            poster,
            config,
            folder,
        })
    }

    /// Says where everything is.
    pub(crate) fn introduce(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "  sandbox 沙箱   {}  (its own CA; WeChat Pay's checks, refusals and signatures)",
            self.sandbox.base_url()
        )?;
        writeln!(
            out,
            "  service 服务   http://{}  (SQLite in {})",
            self.service.address(),
            self.folder.path().display()
        )
    }

    /// Imports members as `parksync members import` does; returns how many plates were bound.
    pub(crate) async fn import_members(&self, csv: &str) -> Result<u64, Failure> {
        let file = self.folder.path().join("members.csv");
        std::fs::write(&file, csv)?;
        let imported = members::import_file(&self.config, self.service.store(), &file, None).await?;
        Ok(imported.added)
    }

    /// What the service counted so far.
    pub(crate) async fn counters(&self) -> Result<Counters, Failure> {
        let counters = self.service.store().counters().await;
        counters
            .map(Counters)
            .map_err(|error| broken("the counters cannot be read", &error))
    }

    /// Lets time go on until nothing waits any more.
    pub(crate) async fn drain(&self, mut show: impl FnMut()) -> Result<(), Failure> {
        let end = Instant::now() + DRAIN;
        while Instant::now() < end {
            if self.counters().await?.sum("waiting", Some("waiting")) == 0 {
                return Ok(());
            }
            self.clock.set(self.clock.now() + SignedDuration::from_secs(10));
            show();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Stops the service, then the sandbox.
    pub(crate) async fn close(self) {
        self.service.stop().await;
        self.sandbox.stop();
    }
}

fn broken(what: &'static str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Unexpected, what).cause(error.to_string())
}

/// What the service counted.
pub(crate) struct Counters(Vec<Counter>);

impl Counters {
    /// All of a name, or only those with a word.
    pub(crate) fn sum(&self, name: &str, word: Option<&str>) -> i64 {
        let of_name = self.0.iter().filter(|counter| counter.name == name);
        of_name
            .filter(|counter| word.is_none_or(|word| counter.word == word))
            .map(|counter| counter.value)
            .sum()
    }

    /// All of a name, word by word, but for those that are zero.
    pub(crate) fn by_word(&self, name: &str) -> BTreeMap<&str, i64> {
        let mut words: BTreeMap<&str, i64> = BTreeMap::new();
        let of_name = self
            .0
            .iter()
            .filter(|counter| counter.name == name && counter.value != 0);
        for counter in of_name {
            *words.entry(&counter.word).or_default() += counter.value;
        }
        words
    }

    /// What was counted since.
    pub(crate) fn since(self, before: &Self) -> Self {
        let was = |counter: &Counter| {
            let same = before
                .0
                .iter()
                .find(|old| (&old.name, &old.scope, &old.word) == (&counter.name, &counter.scope, &counter.word));
            same.map_or(0, |old| old.value)
        };
        let since = self.0.into_iter().map(|counter| Counter {
            value: counter.value - was(&counter),
            ..counter
        });
        Self(since.collect())
    }
}

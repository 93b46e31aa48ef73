//! `parksync members`: import, list, bind, unbind. Works on the database itself, whether or not `serve` runs.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::task::JoinSet;

use super::serve::start_failure;
use super::{Exit, Failure};
use crate::clock::Clock;
use crate::config::{Circle, Config};
use crate::csv_lines;
use crate::domain::member::{Appid, MemberKey, Openid, bindable_plate, readable_plate};
use crate::domain::plate::Plate;
use crate::limits;
use crate::service::stores;
use crate::store::{Bound, MEMBERS_PER_PLATE, Store, StoreError};

/// Lines that are written at one time. They share commits.
const AT_ONCE: usize = 256;
/// Bad lines that are printed one by one; more are only counted.
const BAD_LINES_SHOWN: u64 = 1000;

#[derive(Debug, Subcommand)]
pub(super) enum MembersCommand {
    /// Import members from a CSV file with the columns openid, plate and optionally appid and circle
    ///
    /// Bad lines are reported with their number and left out; good lines are imported. A line that is there already changes nothing.
    Import {
        /// The file; UTF-8, with a header line
        file: PathBuf,
        /// The circle (商圈) of lines that name none; may be left out when there is only one
        #[arg(long)]
        circle: Option<String>,
    },
    /// List members, masked
    List {
        /// Only of this circle
        #[arg(long)]
        circle: Option<String>,
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Bind plates to a member. A car that is inside is told to WeChat Pay at once
    Bind(MemberArgs),
    /// Take plates from a member; all of them when none is named. Waiting messages are withdrawn
    Unbind(MemberArgs),
}

#[derive(Debug, Args)]
pub(super) struct MemberArgs {
    /// The circle (商圈); may be left out when there is only one
    #[arg(long)]
    circle: Option<String>,
    /// The appid of the openid; the circle's by default
    #[arg(long)]
    appid: Option<Appid>,
    /// The member
    #[arg(long)]
    openid: String,
    /// A plate; may be given several times
    #[arg(long = "plate")]
    plates: Vec<String>,
    /// With bind: the plates belong to this member alone from now on, as after a sale
    #[arg(long)]
    sole: bool,
}

pub(super) async fn run(config: &Config, command: MembersCommand) -> Result<Exit, Failure> {
    let store = open_store(config).await?;
    match command {
        MembersCommand::Import { file, circle } => import(config, store, &file, circle).await,
        MembersCommand::List { circle, json } => list(&*store, circle, json).await,
        MembersCommand::Bind(arguments) => {
            let sole = arguments.sole;
            let (member, plates) = arguments.read(config, bindable_plate)?;
            if plates.is_empty() {
                return Err(Failure::new(Exit::Usage, "name at least one plate with --plate"));
            }
            let bound = store
                .bind(member, plates, sole, Clock::system().now())
                .await
                .map_err(store_failure)?;
            if bound.full > 0 {
                let why = format!(
                    "{} of the plates have {MEMBERS_PER_PLATE} other members already",
                    bound.full
                );
                return Err(Failure::new(Exit::Usage, why).hint("after a sale, --sole ends the bindings of the others"));
            }
            writeln!(
                std::io::stdout(),
                "{}",
                json!({ "added": bound.added, "inside": bound.inside })
            )?;
            Ok(Exit::Done)
        }
        MembersCommand::Unbind(arguments) => {
            let (member, plates) = arguments.read(config, readable_plate)?;
            let unbound = store
                .unbind(member, plates, Clock::system().now())
                .await
                .map_err(store_failure)?;
            writeln!(
                std::io::stdout(),
                "{}",
                json!({ "removed": unbound.removed, "withdrawn": unbound.withdrawn })
            )?;
            Ok(Exit::Done)
        }
    }
}

/// Opens the database of the settings, whether or not `serve` runs on it.
pub(super) async fn open_store(config: &Config) -> Result<Arc<dyn Store>, Failure> {
    stores::open(config).await.map_err(start_failure)
}

impl MemberArgs {
    fn read(
        &self,
        config: &Config,
        plate: impl Fn(&str) -> Result<Plate, String>,
    ) -> Result<(MemberKey, Vec<Plate>), Failure> {
        let usage = |error: String| Failure::new(Exit::Usage, error);
        let circle = find_circle(config, self.circle.as_deref()).map_err(usage)?;
        let openid = Openid::parse(&self.openid).map_err(|error| usage(error.to_string()))?;
        let plates = self
            .plates
            .iter()
            .map(|raw| plate(raw).map_err(usage))
            .collect::<Result<_, _>>()?;
        let appid = self.appid.clone().unwrap_or_else(|| circle.appid.clone());
        Ok((
            MemberKey {
                circle: circle.id.clone(),
                appid,
                openid,
            },
            plates,
        ))
    }
}

pub(super) fn find_circle<'a>(config: &'a Config, named: Option<&str>) -> Result<&'a Circle, String> {
    match named.filter(|name| !name.is_empty()) {
        Some(id) => config
            .circle
            .iter()
            .find(|circle| circle.id == id)
            .ok_or(format!("there is no circle \"{id}\" in the settings")),
        None if config.circle.len() == 1 => Ok(&config.circle[0]),
        None => Err("name the circle: the settings have several or none".to_owned()),
    }
}

fn store_failure(error: StoreError) -> Failure {
    Failure::new(Exit::Later, error.to_string()).hint("try again: what was done already is left as it is")
}

async fn list(store: &dyn Store, circle: Option<String>, as_json: bool) -> Result<Exit, Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout());
    let mut after = 0;
    loop {
        let (members, next) = store
            .members(circle.clone(), after, limits::MEMBERS_PER_PAGE)
            .await
            .map_err(store_failure)?;
        for member in &members {
            let (circle, openid) = (&member.key.circle, member.key.openid.masked());
            let plates: Vec<_> = member.plates.iter().map(Plate::masked).collect();
            if as_json {
                let line = json!({ "circle": circle, "appid": member.key.appid, "openid": openid, "plates": plates });
                writeln!(out, "{line}")?;
            } else {
                writeln!(out, "{circle}  {openid}  {}", plates.join(" "))?;
            }
        }
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// One good line.
struct Line {
    member: MemberKey,
    plate: Plate,
}

/// What an import came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) lines: u64,
    pub(crate) bad: u64,
    pub(crate) added: u64,
    pub(crate) inside: u64,
}

async fn import(config: &Config, store: Arc<dyn Store>, path: &Path, circle: Option<String>) -> Result<Exit, Failure> {
    let report = import_file(config, store, path, circle.as_deref()).await?;
    let told = json!({ "lines": report.lines, "bad": report.bad, "added": report.added, "inside": report.inside });
    writeln!(std::io::stdout(), "{told}")?;
    Ok(if report.bad == 0 { Exit::Done } else { Exit::Partly })
}

/// Imports a file line by line. Bad lines are told on stderr and left out.
pub(crate) async fn import_file(
    config: &Config,
    store: Arc<dyn Store>,
    path: &Path,
    circle: Option<&str>,
) -> Result<Report, Failure> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (size, file) = opened.map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot read {}", path.display())).cause(error.to_string())
    })?;
    let progress = ProgressBar::new(size);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent}%  {msg}") {
        progress.set_style(style);
    }
    let mut lines = csv_lines::Lines::new(progress.wrap_read(file));
    let header = lines
        .next()
        .transpose()?
        .ok_or_else(|| Failure::new(Exit::Usage, format!("{} is empty", path.display())))?;
    let columns = Columns::find(
        &header
            .fields
            .map_err(|why| Failure::new(Exit::Usage, format!("line 1: {why}")))?,
    )?;
    let mut report = Report::default();
    let mut writes: JoinSet<Written> = JoinSet::new();
    for line in lines {
        let csv_lines::Line { number, fields } = line?;
        report.lines += 1;
        match fields.and_then(|fields| columns.read(&fields, config, circle)) {
            Ok(Line { member, plate }) => {
                while writes.len() >= AT_ONCE {
                    report.take(writes.join_next().await)?;
                }
                let store = Arc::clone(&store);
                let now = Clock::system().now();
                writes.spawn(async move { (number, store.bind(member, vec![plate], false, now).await) });
            }
            Err(why) => {
                report.bad += 1;
                if report.bad <= BAD_LINES_SHOWN {
                    progress.suspend(|| eprintln!("line {number}: {why}"));
                }
            }
        }
        progress.set_message(format!("{} lines, {} bad", report.lines, report.bad));
    }
    while !writes.is_empty() {
        report.take(writes.join_next().await)?;
    }
    progress.finish_and_clear();
    if report.bad > BAD_LINES_SHOWN {
        eprintln!("… and {} more bad lines", report.bad - BAD_LINES_SHOWN);
    }
    Ok(report)
}

/// What became of one line, by its number.
type Written = (u64, Result<Bound, StoreError>);

impl Report {
    fn take(&mut self, written: Option<Result<Written, tokio::task::JoinError>>) -> Result<(), Failure> {
        let (number, bound) = match written {
            Some(Ok((number, bound))) => (
                number,
                bound.map_err(|error| {
                    Failure::new(Exit::Later, error.to_string())
                        .hint("import the file again: what is there already is left as it is")
                })?,
            ),
            Some(Err(error)) => {
                return Err(Failure::new(Exit::Unexpected, "a write broke off").cause(error.to_string()));
            }
            None => return Ok(()),
        };
        self.added += u64::from(bound.added);
        self.inside += u64::from(bound.inside);
        if bound.full > 0 {
            self.bad += 1;
            eprintln!("line {number}: plate: {MEMBERS_PER_PLATE} other members have it already");
        }
        Ok(())
    }
}

/// Where the columns are.
struct Columns {
    openid: usize,
    plate: usize,
    appid: Option<usize>,
    circle: Option<usize>,
}

impl Columns {
    fn find(header: &csv::StringRecord) -> Result<Self, Failure> {
        let place = |names: &[&str]| {
            header
                .iter()
                .position(|name| names.iter().any(|known| name.eq_ignore_ascii_case(known)))
        };
        let needed = |names: &[&str]| {
            place(names).ok_or_else(|| {
                Failure::new(Exit::Usage, format!("the header line has no column {}", names[0]))
                    .hint("the first line names the columns: openid,plate and optionally appid,circle")
            })
        };
        Ok(Self {
            openid: needed(&["openid", "用户标识"])?,
            plate: needed(&["plate", "plate_number", "车牌", "车牌号"])?,
            appid: place(&["appid"]),
            circle: place(&["circle", "商圈"]),
        })
    }

    fn read(&self, record: &csv::StringRecord, config: &Config, circle: Option<&str>) -> Result<Line, String> {
        let field = |index: Option<usize>| {
            index
                .and_then(|index| record.get(index))
                .filter(|text| !text.is_empty())
        };
        let circle = find_circle(config, field(self.circle).or(circle)).map_err(|why| format!("circle: {why}"))?;
        let openid = field(Some(self.openid)).ok_or("openid: the field is empty")?;
        let openid = Openid::parse(openid).map_err(|why| format!("openid: {why}"))?;
        let plate = field(Some(self.plate)).ok_or("plate: the field is empty")?;
        let plate = bindable_plate(plate).map_err(|why| format!("plate: {why}"))?;
        let appid = match field(self.appid) {
            Some(appid) => appid.parse().map_err(|why| format!("appid: {why}"))?,
            None => circle.appid.clone(),
        };
        Ok(Line {
            member: MemberKey {
                circle: circle.id.clone(),
                appid,
                openid,
            },
            plate,
        })
    }
}

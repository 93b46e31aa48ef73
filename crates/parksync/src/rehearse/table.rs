//! A CSV file within bounds: a header line, then lines with the numbers that an editor shows.
//!
//! A field cannot hold a line end, so one bad line never swallows the next. What the columns mean is not known here.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::cli::{Exit, Failure};

/// Largest file that is read: some 600,000 events.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Longest line.
const LINE_BYTES: usize = 1024;

/// A file in memory.
pub(super) struct Table {
    name: String,
    bytes: Vec<u8>,
}

/// One line that is not blank.
pub(super) struct Line {
    pub(super) number: u64,
    /// Its fields, or why there are none.
    pub(super) fields: Result<csv::StringRecord, String>,
}

impl Table {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| Failure::new(Exit::Usage, format!("cannot read {name}")).cause(error.to_string()))?;
        if bytes.len() as u64 > FILE_BYTES {
            let mib = FILE_BYTES / 1024 / 1024;
            return Err(Failure::new(Exit::Usage, format!("{name} is larger than {mib} MiB"))
                .hint("rehearse a few days at a time"));
        }
        Ok(Self { name, bytes })
    }

    #[cfg(test)]
    pub(super) fn of(text: &str) -> Self {
        let (name, bytes) = ("test.csv".to_owned(), text.as_bytes().to_vec());
        Self { name, bytes }
    }

    /// Finds columns by their names in the header line, in any order and among others.
    pub(super) fn columns<const N: usize>(&self, names: [&str; N]) -> Result<[usize; N], Failure> {
        let usage = |why: String| Failure::new(Exit::Usage, format!("{}: {why}", self.name));
        let header = self.all().next().ok_or_else(|| usage("the file is empty".to_owned()))?;
        let header = header
            .fields
            .map_err(|why| usage(format!("line {}: {why}", header.number)))?;
        let mut found = [0; N];
        for (place, name) in found.iter_mut().zip(names) {
            *place = header
                .iter()
                .position(|column| column.eq_ignore_ascii_case(name))
                .ok_or_else(|| {
                    usage(format!("the header line has no column {name}"))
                        .hint(format!("the first line names the columns: {}", names.join(",")))
                })?;
        }
        Ok(found)
    }

    /// The lines after the header.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        self.all().skip(1)
    }

    fn all(&self) -> impl Iterator<Item = Line> {
        let lines = self.bytes.split(|byte| *byte == b'\n').zip(1..);
        lines
            .filter(|(line, _)| !line.trim_ascii().is_empty())
            .map(|(line, number)| Line {
                number,
                fields: fields(line),
            })
    }
}

fn fields(line: &[u8]) -> Result<csv::StringRecord, String> {
    if line.len() > LINE_BYTES {
        return Err(format!("the line is longer than {LINE_BYTES} bytes"));
    }
    let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .buffer_capacity(LINE_BYTES)
        .from_reader(line);
    let mut fields = csv::StringRecord::new();
    match reader.read_record(&mut fields) {
        Ok(_) => Ok(fields),
        Err(_) => Err("the line is not UTF-8; save the file as \"CSV UTF-8\"".to_owned()),
    }
}

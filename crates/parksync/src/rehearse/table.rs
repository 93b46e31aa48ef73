//! A CSV file within bounds: a header line, then lines with the numbers that an editor shows.
//!
//! What the columns mean is not known here.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::cli::{Exit, Failure};
pub(super) use crate::csv_lines::Line;
use crate::csv_lines::Lines;

/// Largest file that is read: some 600,000 events.
const FILE_BYTES: u64 = 64 * 1024 * 1024;

/// A file in memory.
pub(super) struct Table {
    name: String,
    bytes: Vec<u8>,
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
        // Reading from memory does not fail.
        Lines::new(&self.bytes[..]).filter_map(Result::ok)
    }
}

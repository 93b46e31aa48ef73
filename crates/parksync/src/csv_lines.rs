//! The lines of a CSV file, within bounds. What the columns mean is not known here: `cli` reads members, `rehearse` reads events.

use std::io::{self, BufRead, Read};

/// Longest line that is read.
const LINE_BYTES: usize = 1024;

/// The lines of a CSV file, one by one, with the numbers that an editor shows. A field cannot hold a line end,
/// and so one bad line never swallows the next.
pub(crate) struct Lines<R> {
    input: io::BufReader<R>,
    number: u64,
}

/// One line that is not blank.
pub(crate) struct Line {
    /// As an editor counts.
    pub(crate) number: u64,
    /// Its fields, or why there are none.
    pub(crate) fields: Result<csv::StringRecord, String>,
}

impl<R: io::Read> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input: io::BufReader::new(input),
            number: 0,
        }
    }

    /// The next line without its end; at most `LINE_BYTES` of it, and whether there was more.
    fn read_line(&mut self) -> io::Result<Option<(Vec<u8>, bool)>> {
        let mut line = Vec::new();
        let mut cut = false;
        loop {
            let mut part = Vec::new();
            let limit = (LINE_BYTES + 1) as u64;
            if self.input.by_ref().take(limit).read_until(b'\n', &mut part)? == 0 {
                return Ok((!line.is_empty()).then_some((line, cut)));
            }
            let ended = part.ends_with(b"\n");
            cut |= line.len() + part.len() > LINE_BYTES;
            if line.is_empty() {
                line = part;
            }
            if ended {
                return Ok(Some((line, cut)));
            }
        }
    }
}

impl<R: io::Read> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (line, cut) = match self.read_line() {
                Ok(Some(line)) => line,
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            };
            self.number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let fields = if cut {
                Err(format!("the line is longer than {LINE_BYTES} bytes"))
            } else {
                fields(&line)
            };
            return Some(Ok(Line {
                number: self.number,
                fields,
            }));
        }
    }
}

fn fields(line: &[u8]) -> Result<csv::StringRecord, String> {
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

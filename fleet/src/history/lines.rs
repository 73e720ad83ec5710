//! A history as JSON lines: the header, then operations and faults, one to a line.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use super::{At, Fault, Header, History, Operation};

/// Why a file is no history.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line is not what it should be.
    #[error("line {line}: {error}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// It does not begin with a header.
    #[error("the first line is no header of a history")]
    Header,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum LineOut<'a> {
    Header(&'a Header),
    Operation(&'a Operation),
    Fault(&'a Fault),
    Full(At),
    Unsent(usize),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineIn {
    Header(Header),
    Operation(Operation),
    Fault(Fault),
    Full(At),
    Unsent(usize),
}

impl History {
    /// Writes it, line by line.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_lines(&self, out: &mut impl Write) -> io::Result<()> {
        let mut line = |line: &LineOut<'_>| {
            serde_json::to_writer(&mut *out, line)?;
            out.write_all(b"\n")
        };
        line(&LineOut::Header(&self.header))?;
        self.operations.iter().try_for_each(|operation| line(&LineOut::Operation(operation)))?;
        self.faults.iter().try_for_each(|fault| line(&LineOut::Fault(fault)))?;
        line(&LineOut::Unsent(self.unsent))?;
        self.full.map_or(Ok(()), |at| line(&LineOut::Full(at)))
    }

    /// Reads what [`History::write_lines`] wrote.
    ///
    /// # Errors
    /// It cannot be read, or is no history.
    pub fn read_lines(input: impl BufRead) -> Result<Self, LinesError> {
        let mut history: Option<Self> = None;
        for (number, line) in input.lines().enumerate() {
            let line =
                serde_json::from_str(&line?).map_err(|error| LinesError::Line { line: number + 1, error })?;
            match (line, &mut history) {
                (LineIn::Header(header), None) => {
                    history = Some(Self {
                        header,
                        operations: Vec::new(),
                        faults: Vec::new(),
                        full: None,
                        unsent: 0,
                    });
                }
                (_, None) | (LineIn::Header(_), Some(_)) => return Err(LinesError::Header),
                (LineIn::Operation(operation), Some(history)) => history.operations.push(operation),
                (LineIn::Fault(fault), Some(history)) => history.faults.push(fault),
                (LineIn::Full(at), Some(history)) => history.full = Some(at),
                (LineIn::Unsent(count), Some(history)) => history.unsent = count,
            }
        }
        history.ok_or(LinesError::Header)
    }
}

use std::{
    fmt::Write as _,
    fs::File,
    io::{BufWriter, Write as _},
    time::Duration,
};

use fleet::{
    figures::Figures,
    history::{Answer, At, History, Operation, Outcome as Came, Subject, What},
    judge::{self, Charge},
};

use super::Scale;

/// Broken expectations that are written out in full, of each kind.
const SHOWN: usize = 5;

/// What came of a scenario.
#[derive(Debug)]
pub(crate) struct Outcome {
    promise: &'static str,
    scale: Scale,
    fault: String,
    /// The end of the run: later calls say goodbye, thousands at once, and are no part of what is promised.
    until: At,
    pub(crate) history: History,
    pub(crate) figures: Figures,
    numbers: Vec<String>,
    broken: Vec<String>,
}

impl Outcome {
    /// Judges the history. The judge's findings count as broken.
    pub(crate) fn new(promise: &'static str, scale: Scale, fault: &str, until: At, history: History) -> Self {
        let figures = Figures::of(&history);
        let judgement = judge::judge(&history);
        let mut broken = Vec::new();
        if !judgement.innocent() {
            broken.push(history.explain_all(&judgement));
        }
        if let Some(full) = judgement.full {
            broken.push(format!("the history was full at {full}"));
        }
        let count =
            |charge| judgement.verdicts.iter().find(|one| one.charge == charge).map_or(0, |one| one.count);
        let verdicts: Vec<String> =
            Charge::ALL.iter().map(|charge| format!("{} {}", count(*charge), charge.name())).collect();
        let numbers = vec![verdicts.join(", ")];
        Self { promise, scale, fault: fault.to_owned(), until, history, figures, numbers, broken }
    }

    /// Adds a figure to the line.
    pub(crate) fn figure(&mut self, text: impl Into<String>) {
        self.numbers.push(text.into());
    }

    /// Adds a time to the line, which must not be longer than `most`.
    pub(crate) fn at_most(&mut self, what: &str, took: Duration, most: Duration) {
        self.figure(format!("{what} {:.2} s", took.as_secs_f64()));
        self.expect(took <= most, || format!("{what}: {took:?}, at most {most:?} were promised"));
    }

    /// Something that must hold.
    pub(crate) fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(otherwise());
        }
    }

    /// The calls that were answered, or given up, while the run went on.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &Operation> {
        self.history.operations.iter().filter(|call| call.end <= self.until)
    }

    /// Counts operations of which there must be none.
    pub(crate) fn none(&mut self, what: &str, mut is_one: impl FnMut(&Operation) -> bool) {
        let found: Vec<&Operation> = self.calls().filter(|one| is_one(one)).collect();
        let (count, mut text) = (found.len(), String::new());
        for operation in found.into_iter().take(SHOWN) {
            let _ = writeln!(text, "    {}", self.history.describe(operation));
        }
        self.numbers.push(format!("{count} {what}"));
        if count > 0 {
            for fault in &self.history.faults {
                let end = fault.over.or(fault.lifting).map_or("the end".to_owned(), |over| over.to_string());
                let _ = writeln!(text, "    fault: {:?}, {} to {end}", fault.kind, fault.began);
            }
            self.broken.push(format!("{count} {what}, such as\n{text}"));
        }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.broken.is_empty()
    }

    /// What is broken, in words.
    pub(crate) fn broken(&self) -> String {
        self.broken.join("\n")
    }

    /// Prints the line of the scenario.
    ///
    /// # Panics
    /// When something is broken: with all of it, and the history in a file.
    pub(crate) fn tell(mut self, took: Duration) {
        let load = format!(
            "{} instances, {:.0} calls/s",
            self.history.header.catalog.len(),
            rate(self.figures.operations, self.figures.seconds)
        );
        let result = if self.broken.is_empty() { "kept" } else { "BROKEN" };
        let (seed, seconds) = (self.history.header.seed, took.as_secs_f64());
        self.numbers.push(format!("{seconds:.0} s in all"));
        println!(
            "| {} ({}) | {load} | {} | {result} | {} | seed {seed} |",
            self.promise,
            self.scale.name(),
            self.fault,
            self.numbers.join("; ")
        );
        if self.scale.full || !self.broken.is_empty() {
            println!("{}", self.figures.table());
        }
        if self.broken.is_empty() {
            return;
        }
        let file = std::env::temp_dir().join(format!("chaos-{}-{seed}.jsonl", self.promise));
        let kept = File::create(&file).and_then(|file| {
            let mut out = BufWriter::new(file);
            self.history.write_lines(&mut out)?;
            out.flush()
        });
        let kept = kept.map_or_else(
            |error| format!("the history could not be kept: {error}"),
            |()| format!("the history is in {}", file.display()),
        );
        panic!("{} ({}):\n{}\n{kept}", self.promise, self.scale.name(), self.broken.join("\n"));
    }
}

fn rate(count: usize, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let count = count as f64;
    count / seconds.max(1.0)
}

/// Whether a call went to nginx.
pub(crate) fn through_nginx(operation: &Operation) -> bool {
    operation.target == 0
}

/// Whether a call did not get an answer that helps: none, a server's error, or a refusal. For an instance that never
/// was, 404 helps.
pub(crate) fn is_error(operation: &Operation) -> bool {
    match &operation.what {
        What::Write(write) => write.outcome == Came::Maybe || write.outcome == Came::Refused,
        What::Read(read) => read.answer == Answer::Nothing,
    }
}

/// Whether it reads something that is there: a node that does not see cannot answer for what is not.
pub(crate) fn is_read(operation: &Operation) -> bool {
    matches!(&operation.what, What::Read(read) if read.subject != Subject::Nobody)
}

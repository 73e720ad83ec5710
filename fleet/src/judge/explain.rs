//! Findings and operations in words.

use std::fmt::Write as _;

use super::{Finding, Judgement};
use crate::history::{
    Act, Answer, At, FaultKind, History, Listed, Operation, Outcome, Read, Subject, What, Write,
};

/// Entries of a list that are written out.
const SHOWN: usize = 12;

impl History {
    /// An operation in a line: when, where, what, and what came of it.
    pub fn describe(&self, operation: &Operation) -> String {
        let place = self.header.targets.get(usize::from(operation.target));
        let url = place.map_or("?", |place| place.url.trim_end_matches('/'));
        let (asked, came) = match &operation.what {
            What::Write(write) => (self.asked(*write), came(*write).to_owned()),
            What::Read(read) => (self.looked(read.subject), self.saw(read)),
        };
        let status =
            if operation.status == 0 { "no answer".to_owned() } else { operation.status.to_string() };
        format!("{} to {}  {url}  {asked} -> {status}{came}", operation.start, operation.end)
    }

    fn asked(&self, write: Write) -> String {
        let act = match write.act {
            Act::Register => "register",
            Act::Beat => "beat",
            Act::Drain => "drain",
            Act::Deregister => "deregister",
        };
        let critical = if write.usable { "" } else { ", critical" };
        format!("{act} {} (session {}{critical})", self.header.catalog.name(write.instance), write.session)
    }

    fn looked(&self, subject: Subject) -> String {
        let catalog = &self.header.catalog;
        match subject {
            Subject::Services => "GET /services".to_owned(),
            Subject::Instances => "GET /instances".to_owned(),
            Subject::Service { service, all } => {
                format!("GET /services/{}{}", catalog.service(service), if all { "?all=true" } else { "" })
            }
            Subject::Instance { instance } => format!(
                "GET /services/{}/instances/{}",
                catalog.service(catalog.service_of(instance)),
                catalog.instance(instance)
            ),
            Subject::Nobody => "GET an instance that never was".to_owned(),
        }
    }

    fn saw(&self, read: &Read) -> String {
        let Answer::List(list) = &read.answer else { return String::new() };
        let name = |listed: &Listed| {
            let mut name = if read.subject == Subject::Services {
                self.header.catalog.service(listed.number())
            } else {
                self.header.catalog.name(listed.number())
            };
            for (flag, is) in
                [("stale", listed.stale()), ("draining", listed.draining()), ("critical", listed.critical())]
            {
                if is {
                    let _ = write!(name, " {flag}");
                }
            }
            name
        };
        let mut names: Vec<String> = list.iter().take(SHOWN).map(name).collect();
        if list.len() > SHOWN {
            names.push(format!("and {} more", list.len() - SHOWN));
        }
        format!(", Age {}, {} of this run: [{}]", read.age, list.len(), names.join(", "))
    }

    /// A finding with the operations that prove it, and the faults of that time.
    pub fn explain(&self, finding: &Finding) -> String {
        let mut text = format!("{}: {}\n", finding.charge.name(), finding.what);
        for place in &finding.proof {
            if let Some(operation) = self.operations.get(*place) {
                let _ = writeln!(text, "    #{place}  {}", self.describe(operation));
            }
        }
        let end = finding.proof.last().and_then(|place| self.operations.get(*place)).map(|last| last.end);
        for fault in self.faults.iter().filter(|fault| end.is_some_and(|end| fault.began <= end)) {
            let kind = match fault.kind {
                FaultKind::Node(node) => format!("node {node} away"),
                FaultKind::Store => "no node sees".to_owned(),
                FaultKind::StoreLost => "the store lost data".to_owned(),
            };
            let over = fault.over.or(fault.lifting);
            let until = over.map_or("the end".to_owned(), |over: At| over.to_string());
            let _ = writeln!(text, "    fault: {kind}, {} to {until}", fault.began);
        }
        text
    }

    /// All verdicts, for people.
    pub fn explain_all(&self, judgement: &Judgement) -> String {
        let mut text = String::new();
        for verdict in &judgement.verdicts {
            let word =
                if verdict.count == 0 { "none".to_owned() } else { format!("{} found", verdict.count) };
            let _ = writeln!(text, "{:<14}{word}", verdict.charge.name());
        }
        for verdict in &judgement.verdicts {
            for finding in &verdict.findings {
                text.push('\n');
                text.push_str(&self.explain(finding));
            }
            if verdict.count > verdict.findings.len() {
                let _ = writeln!(text, "    ... and {} more", verdict.count - verdict.findings.len());
            }
        }
        if let Some(full) = judgement.full {
            let _ = writeln!(text, "\nthe history was full at {full}; what came later was not judged");
        }
        text
    }
}

fn came(write: Write) -> &'static str {
    match write.outcome {
        Outcome::Acknowledged => ", acknowledged",
        Outcome::NotThere => ", not there",
        Outcome::Superseded => ", superseded",
        Outcome::Refused => ", refused",
        Outcome::Maybe => ", carried out or not",
        Outcome::CutShort => " of a sidecar that was stopped under it, carried out or not",
    }
}

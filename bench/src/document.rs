//! The document.

use std::fmt::Write;

use crate::{line::Line, lines::Group, machine::Machine};

/// What was measured of one group.
#[derive(Debug)]
pub struct Measured {
    /// The group.
    pub group: &'static Group,
    /// Its lines.
    pub lines: Vec<Line>,
}

const HEAD: &str = "\
# Benchmarks

Written by `make bench`; no figure here was typed by hand. All servers ran on this one machine, on the loopback
interface, together with what loaded them. A ratio is the median over interleaved rounds; in brackets the least and the
most of a round.

*Limit* is the least that an HTTP server of this kind can do: a handler of the same library (axum), in a process of its
own, built with the same profile, behind the registry's own accept loop and connection settings, which reads the same
request, writes as many bytes as the registry's answer has, and does nothing else. It is measured in the same round, by
the same client, beside the same load.
";

/// The whole text. `command` is how it was made, `took` how long.
pub fn render(machine: &Machine, command: &str, took: std::time::Duration, measured: &[Measured]) -> String {
    let mut text = String::from(HEAD);
    text.push_str("\n| | |\n|---|---|\n");
    for (name, value) in &machine.facts {
        row(&mut text, &[name, value]);
    }
    row(&mut text, &["command", &format!("`{command}`, {} s", took.as_secs())]);
    for Measured { group, lines } in measured {
        let _ = write!(text, "\n## {}\n\n{}\n\n", group.title, group.about);
        text.push_str("| work | must reach | measured | kept | notes |\n|---|---|---|---|---|\n");
        for line in lines {
            let kept = match line.kept {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "",
            };
            row(&mut text, &[&line.work, &line.promise, &line.measured, kept, &line.notes]);
        }
    }
    left_out(&mut text, measured);
    text
}

/// What is not in the tables, and why.
fn left_out(text: &mut String, measured: &[Measured]) {
    text.push_str("\n## Left out\n\n");
    let mut nothing = true;
    for Measured { lines, .. } in measured {
        for line in lines.iter().filter(|line| line.kept.is_none()) {
            nothing = false;
            let _ = writeln!(text, "- {}: {}", line.work, line.notes);
        }
    }
    for group in crate::lines::GROUPS.iter().filter(|group| !measured.iter().any(|one| one.group == *group)) {
        nothing = false;
        let why = if group.apart { "measured apart" } else { "not asked for" };
        let _ = writeln!(text, "- {}: {why} (`BENCH_ONLY={}`)", group.title, group.name);
    }
    if nothing {
        text.push_str("Nothing.\n");
    }
}

fn row(text: &mut String, cells: &[&str]) {
    for cell in cells {
        let _ = write!(text, "| {} ", cell.replace('|', "\\|").replace('\n', " "));
    }
    text.push_str("|\n");
}

#[cfg(test)]
mod tests;

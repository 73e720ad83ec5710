//! Log lines on stderr, as text for people or JSON for machines.
//!
//! In: events of `tracing`.
//! Owns: the level, the format, and that one event is one line whatever it holds.
//! Out: lines.
//!
//! A subscriber of its own instead of tracing-subscriber's, whose formatter is 62 KB of a binary that has 2 MB.

use std::{
    fmt::{self, Write as _},
    io::{IsTerminal as _, Write as _, stderr},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::set_global_default,
};

use crate::{ConfigError, Source, clock};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// A level for everything, and others for targets that begin with a name: `info,sidecar=debug`.
#[derive(Clone, Debug)]
struct Filter {
    /// The longest name first; the empty one stands for everything.
    levels: Vec<(String, LevelFilter)>,
}

impl Filter {
    fn parse(text: &str) -> Option<Self> {
        let mut levels = Vec::new();
        for part in text.split(',') {
            let (target, level) = part.split_once('=').unwrap_or(("", part));
            let (target, level) = (target.trim(), level.trim());
            let is_name = target.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-'));
            // tracing takes no level at all for `error`.
            if !is_name || level.is_empty() {
                return None;
            }
            levels.push((target.to_owned(), level.parse().ok()?));
        }
        // Of two for the same name the last one counts.
        levels.reverse();
        levels.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        Some(Self { levels })
    }

    fn level(&self, target: &str) -> LevelFilter {
        // The program's name means its library as well.
        let short = target.strip_prefix("registry_").unwrap_or(target);
        let found = self.levels.iter().find(|(name, _)| target.starts_with(name) || short.starts_with(name));
        found.map_or(LevelFilter::OFF, |(_, level)| *level)
    }

    fn highest(&self) -> LevelFilter {
        self.levels.iter().map(|(_, level)| *level).max().unwrap_or(LevelFilter::OFF)
    }
}

/// Which lines are written, and how.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    filter: Filter,
    format: Format,
}

impl Log {
    /// Reads `SIDECAR_LOG` and `SIDECAR_LOG_FORMAT`.
    pub(crate) fn from_source(source: &Source<'_>) -> Result<Self, ConfigError> {
        let text = source.text("SIDECAR_LOG")?.unwrap_or_else(|| "info".to_owned());
        let filter = Filter::parse(&text).ok_or_else(|| {
            let text = text.escape_debug();
            ConfigError::new(format!(
                "SIDECAR_LOG is '{text}': set off, error, warn, info, debug or trace, or a list such as \
                 info,sidecar=debug"
            ))
        })?;
        let format = match source.text("SIDECAR_LOG_FORMAT")?.as_deref() {
            None if stderr().is_terminal() => Format::Text,
            None | Some("json") => Format::Json,
            Some("text") => Format::Text,
            Some(text) => {
                let text = text.escape_debug();
                return Err(ConfigError::new(format!("SIDECAR_LOG_FORMAT is '{text}': set text or json")));
            }
        };
        Ok(Self { filter, format })
    }

    /// Takes over all events of this process.
    pub(crate) fn install(self) {
        // Only fails when there is one already, which is then as good.
        let _ = set_global_default(self);
    }

    fn line(&self, event: &Event<'_>) -> String {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = event.metadata().level().as_str();
        let now = clock::wall();
        let time = rfc3339(now.as_secs(), now.subsec_millis());
        let mut line = String::new();
        // Writing to a text cannot fail.
        let _ = match self.format {
            Format::Text => fields.text(&mut line, &time, level),
            Format::Json => fields.json(&mut line, &time, level),
        };
        line.push('\n');
        line
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.filter.level(metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter.highest())
    }

    fn event(&self, event: &Event<'_>) {
        // One write, so that lines of two processes do not mix. There is nowhere to report a failure to.
        let _ = stderr().write_all(self.line(event).as_bytes());
    }

    // Spans are not used here; a library that opens one gets an id that means nothing.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// An event's fields. Values of which a registry or a service chose the words are cut to one line when written.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String, bool)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned(), false);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.to_string(), true);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.to_string(), true);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.to_string(), true);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"), false);
    }
}

impl Fields {
    fn add(&mut self, field: &Field, value: String, bare: bool) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.others.push((field.name(), value, bare));
        }
    }

    fn text(&self, line: &mut String, time: &str, level: &str) -> fmt::Result {
        write!(line, "{time} {level:5} {}", printable(&self.message))?;
        for (name, value, _) in &self.others {
            if value.is_empty() || value.contains([' ', '"', '=']) {
                write!(line, " {name}=\"{}\"", printable(value).replace('"', "'"))?;
            } else {
                write!(line, " {name}={}", printable(value))?;
            }
        }
        Ok(())
    }

    fn json(&self, line: &mut String, time: &str, level: &str) -> fmt::Result {
        let quoted = |text: &str| serde_json::to_string(text).map_err(|_| fmt::Error);
        write!(line, "{{\"time\":\"{time}\",\"level\":\"{level}\",\"message\":{}", quoted(&self.message)?)?;
        for (name, value, bare) in &self.others {
            if *bare {
                write!(line, ",\"{name}\":{value}")?;
            } else {
                write!(line, ",\"{name}\":{}", quoted(value)?)?;
            }
        }
        line.push('}');
        Ok(())
    }
}

/// Without line breaks and the sequences that steer terminals.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Seconds since 1970 as people write them, in UTC.
fn rfc3339(seconds: u64, millis: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut day) = (1970, days);
    let length = |year: u64| {
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        if leap { 366 } else { 365 }
    };
    while day >= length(year) {
        day -= length(year);
        year += 1;
    }
    let february = length(year) - 337;
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", day + 1)
}

#[cfg(test)]
mod tests;

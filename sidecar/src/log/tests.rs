use std::sync::{Arc, Mutex};

use tracing::{
    Event, Metadata, Subscriber, info, level_filters::LevelFilter, span, subscriber::with_default, warn,
};

use super::{Format, Log, rfc3339};

/// Keeps the lines instead of writing them.
struct Kept(Log, Arc<Mutex<Vec<String>>>);

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }
    fn event(&self, event: &Event<'_>) {
        self.1.lock().unwrap().push(self.0.line(event));
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn lines(level: LevelFilter, format: Format, act: impl FnOnce()) -> Vec<String> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    with_default(Kept(Log { level, format }, Arc::clone(&lines)), act);
    // Not `into_inner`: another test's thread may hold the subscriber for a moment while it asks who is interested.
    std::mem::take(&mut *lines.lock().unwrap())
}

#[test]
fn one_event_is_one_line_whatever_it_holds() {
    let nasty = "a\r\nfaked line \u{1b}[2J\"quoted\"";
    for format in [Format::Text, Format::Json] {
        let lines = lines(LevelFilter::INFO, format, || warn!(reason = nasty, "it\nbroke"));
        assert_eq!(lines.len(), 1);
        let line = lines[0].strip_suffix('\n').unwrap();
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn json_lines_are_json() {
    let lines = lines(LevelFilter::INFO, Format::Json, || {
        info!(service = "osint", failures = 3_u32, yes = true, nothing = ?None::<u8>, "hello");
    });
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["message"], "hello");
    assert_eq!(line["service"], "osint");
    assert_eq!(line["failures"], 3);
    assert_eq!(line["yes"], true);
    assert_eq!(line["nothing"], "None");
}

#[test]
fn text_lines_are_for_people() {
    let lines = lines(LevelFilter::INFO, Format::Text, || {
        info!(service = "osint", reason = "two words", "hello");
    });
    let (_, rest) = lines[0].split_once(' ').unwrap();
    assert_eq!(rest, "INFO  hello service=osint reason=\"two words\"\n");
}

#[test]
fn what_is_below_the_level_is_left_out() {
    let written = |level| {
        lines(level, Format::Text, || {
            info!("one");
            warn!("two");
        })
    };
    assert_eq!(written(LevelFilter::OFF).len(), 0);
    assert_eq!(written(LevelFilter::WARN).len(), 1);
    assert_eq!(written(LevelFilter::TRACE).len(), 2);
}

#[test]
fn times_are_the_calendars() {
    assert_eq!(rfc3339(0, 7), "1970-01-01T00:00:00.007Z");
    assert_eq!(rfc3339(951_782_400, 0), "2000-02-29T00:00:00.000Z");
    assert_eq!(rfc3339(951_868_800, 0), "2000-03-01T00:00:00.000Z");
    assert_eq!(rfc3339(1_761_308_042, 190), "2025-10-24T12:14:02.190Z");
    assert_eq!(rfc3339(4_107_542_399, 999), "2100-02-28T23:59:59.999Z");
    assert_eq!(rfc3339(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
}

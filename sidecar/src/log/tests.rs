use std::sync::{Arc, Mutex};

use tracing::{
    Event, Metadata, Subscriber, info, level_filters::LevelFilter, span, subscriber::with_default, warn,
};

use super::{Filter, Format, Log, rfc3339};

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

fn lines(filter: &str, format: Format, act: impl FnOnce()) -> Vec<String> {
    let filter = Filter::parse(filter).unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    with_default(Kept(Log { filter, format }, Arc::clone(&lines)), act);
    // Not `into_inner`: another test's thread may hold the subscriber for a moment while it asks who is interested.
    std::mem::take(&mut *lines.lock().unwrap())
}

#[test]
fn one_event_is_one_line_whatever_it_holds() {
    let nasty = "a\r\nfaked line \u{1b}[2J\"quoted\"";
    for format in [Format::Text, Format::Json] {
        let lines = lines("info", format, || warn!(reason = nasty, "it\nbroke"));
        assert_eq!(lines.len(), 1);
        let line = lines[0].strip_suffix('\n').unwrap();
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn json_lines_are_json() {
    let lines = lines("info", Format::Json, || {
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
    let lines = lines("info", Format::Text, || {
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
    assert_eq!(written("off").len(), 0);
    assert_eq!(written("warn").len(), 1);
    assert_eq!(written("TRACE").len(), 2);
    // By where the lines come from: this test is a part of the sidecar.
    assert_eq!(written("off,sidecar=info").len(), 2);
    assert_eq!(written("trace,sidecar=warn").len(), 1);
    assert_eq!(written("sidecar=warn").len(), 1);
    assert_eq!(written("other=info").len(), 0);
}

#[test]
fn a_filter_is_a_level_or_a_list_and_the_longest_name_counts() {
    let level = |filter: &str, target: &str| Filter::parse(filter).unwrap().level(target);
    let filter = "warn, sidecar=info ,sidecar::log=trace,hyper=off";
    for (target, expected) in [
        ("tokio", LevelFilter::WARN),
        ("registry_sidecar::run", LevelFilter::INFO),
        ("sidecar", LevelFilter::INFO),
        ("registry_sidecar::log", LevelFilter::TRACE),
        ("hyper::proto", LevelFilter::OFF),
    ] {
        assert_eq!(level(filter, target), expected, "{target}");
    }
    assert_eq!(Filter::parse(filter).unwrap().highest(), LevelFilter::TRACE);
    assert_eq!(level("info,debug", "x"), LevelFilter::DEBUG, "the last one");
    assert_eq!(level("sidecar=debug", "x"), LevelFilter::OFF);
    for bad in ["loud", "debgu", "info,sidecar", "sidecar=loud", "info;sidecar=debug", "info,", "sidecar="] {
        assert!(Filter::parse(bad).is_none(), "{bad}");
    }
}

#[test]
fn info_and_text_or_json_are_the_defaults() {
    let read = |variables: &'static [(&str, &str)]| {
        let lookup = move |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| std::ffi::OsString::from(value))
        };
        Log::from_source(&crate::Source::new(&lookup)).map_err(|error| error.to_string())
    };
    let log = read(&[]).unwrap();
    assert_eq!(log.filter.level("anything"), LevelFilter::INFO);
    let expected =
        if std::io::IsTerminal::is_terminal(&std::io::stderr()) { Format::Text } else { Format::Json };
    assert_eq!(log.format, expected);
    assert_eq!(read(&[("SIDECAR_LOG_FORMAT", "text")]).unwrap().format, Format::Text);
    let error = read(&[("SIDECAR_LOG", "info,loud\n")]).unwrap_err();
    assert!(error.starts_with("SIDECAR_LOG is 'info,loud\\n'") && !error.contains('\n'), "{error}");
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

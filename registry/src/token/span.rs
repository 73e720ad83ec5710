use super::SPAN_MAX;

/// Seconds of a span such as `90d`: a whole number with `s`, `m`, `h`, `d` or `w`.
///
/// # Errors
/// It is none, or longer than ten years.
pub fn parse_span(text: &str) -> Result<u64, String> {
    let rule = "must be a whole number with s, m, h, d or w, from 1s to 3650d";
    let unit = match text.bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        Some(b'd') => 24 * 3600,
        Some(b'w') => 7 * 24 * 3600,
        _ => return Err(rule.into()),
    };
    let number = &text[..text.len() - 1];
    let seconds =
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<u64>().ok()).flatten();
    let seconds = seconds.and_then(|number| number.checked_mul(unit));
    seconds.filter(|seconds| (1..=SPAN_MAX).contains(seconds)).ok_or_else(|| rule.into())
}

/// A moment in UTC, such as `2027-02-19T06:52:10Z`, of Unix seconds.
pub fn utc(unix: u64) -> String {
    // Days since 1 March of the year 0, in eras of 400 years, so that a leap day is the last of its year.
    let days = unix / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + later;
    let (hour, minute, second) = (unix / 3600 % 24, unix / 60 % 60, unix % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

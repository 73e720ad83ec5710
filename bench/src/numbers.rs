//! Medians and how numbers are written.

/// The middle of some values, the mean of the two middle ones of an even number.
///
/// # Panics
/// When there is none.
pub fn median(values: &[f64]) -> f64 {
    assert!(!values.is_empty(), "a median of nothing");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// The median of what `of` gives for each round, and its least and most.
///
/// # Panics
/// When there is no round.
pub fn over_rounds<R>(rounds: &[R], of: impl Fn(&R) -> f64) -> Spread {
    let values: Vec<f64> = rounds.iter().map(of).collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Spread { median: median(&values), least, most }
}

/// A figure over several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least of a round.
    pub least: f64,
    /// The most of a round.
    pub most: f64,
}

/// A whole number with commas between thousands.
pub fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut text = String::from(sign);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;

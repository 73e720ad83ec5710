use super::*;

#[test]
fn a_median_is_the_middle_or_between_the_two_middle_ones() {
    assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
    assert!((median(&[4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < 1e-12);
    assert!((median(&[7.0]) - 7.0).abs() < 1e-12);
}

#[test]
fn a_spread_names_median_least_and_most() {
    let spread = over_rounds(&[(1.0, 2.0), (3.0, 2.0), (1.0, 1.0)], |(one, other)| one / other);
    assert_eq!(spread, Spread { median: 1.0, least: 0.5, most: 1.5 });
}

#[test]
fn whole_numbers_have_commas() {
    assert_eq!(whole(0.4), "0");
    assert_eq!(whole(999.0), "999");
    assert_eq!(whole(1000.0), "1,000");
    assert_eq!(whole(1_234_567.6), "1,234,568");
    assert_eq!(whole(-4_321.0), "-4,321");
}

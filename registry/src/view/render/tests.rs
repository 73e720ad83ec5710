use super::*;

fn written(value: f64) -> String {
    let mut out = String::new();
    seconds(&mut out, value);
    out
}

#[test]
fn seconds_are_written_as_everywhere_else() {
    let mut value = 0.0_f64;
    for step in 0..200_000_u32 {
        for candidate in [value, (value * 1000.0).round() / 1000.0] {
            assert_eq!(written(candidate), serde_json::to_string(&candidate).unwrap(), "step {step}");
        }
        value = if value > 1e13 { f64::from(step) / 7.0 } else { value * 1.01 + 0.0137 };
    }
    for value in
        [0.0, 0.1, 0.001, 1.0, 1_761_307_802.11, 1_761_307_802.0, 999_999_999_999.999, 1e12, 1e15, 1e300]
    {
        assert_eq!(written(value), serde_json::to_string(&value).unwrap());
        assert_eq!(written(-value), serde_json::to_string(&-value).unwrap());
    }
}

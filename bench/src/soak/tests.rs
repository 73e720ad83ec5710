use super::*;

fn verdict(figure: impl Fn(usize) -> f64) -> bool {
    let samples: Vec<_> = (0..40).map(|at| [figure(at); WATCHED.len()]).collect();
    let (quiet, machine) = (Outcome::default(), Machine::default());
    document(&machine, 1, &samples, [&quiet, &quiet], 0).1
}

#[test]
fn what_settles_is_flat_and_what_grows_on_is_not() {
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let at = |at: usize| at as f64;
    assert!(verdict(|_| 100.0));
    assert!(verdict(|time| 100.0 + 10.0 * at(time.min(10))), "the first quarter does not count");
    assert!(verdict(|time| 100.0 + at(time % 7)), "up and down");
    assert!(!verdict(|time| 100.0 + at(time)));
}

#[test]
fn an_error_or_a_lease_that_ended_is_no_soak() {
    let samples = vec![[1.0; WATCHED.len()]; 8];
    let (good, machine) = (Outcome::default(), Machine::default());
    let mut bad = Outcome::default();
    bad.bad.insert(503, 1);
    assert!(document(&machine, 1, &samples, [&good, &good], 0).1);
    assert!(!document(&machine, 1, &samples, [&good, &bad], 0).1);
    assert!(!document(&machine, 1, &samples, [&good, &good], 1).1);
}

#[test]
fn who_comes_goes() {
    let text = |turn| {
        let mut out = Vec::new();
        come_and_go(turn, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert!(text(0).starts_with("PUT /services/churn-0/instances/c00090000:80 "), "after those of the hour");
    assert!(text(1).starts_with("GET /livez "));
    assert!(
        text(2 * STAY + 1)
            .starts_with(&format!("DELETE /services/churn-0/instances/c00090000:80?session={:032} ", 90_000))
    );
}

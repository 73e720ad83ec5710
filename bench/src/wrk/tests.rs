use super::*;

#[test]
fn the_result_is_found_among_what_wrk_says() {
    let output = "Running 3s test @ http://127.0.0.1:1/\n  2 threads and 64 connections\n\
                  bench 300000 3000000 0 0 640 1900\n";
    let report = parse(output).expect("a report");
    assert!((report.rate - 100_000.0).abs() < 1e-6);
    assert_eq!((report.p50, report.p99), (Duration::from_micros(640), Duration::from_micros(1900)));
}

#[test]
fn a_run_with_errors_is_no_figure() {
    assert!(parse("bench 300000 3000000 1 0 640 1900").is_err());
    assert!(parse("bench 300000 3000000 0 2 640 1900").is_err());
    assert!(parse("bench 0 3000000 0 0 0 0").is_err());
    assert!(parse("bench 1 2 3").is_err());
    assert!(parse("unable to connect to 127.0.0.1:1 Connection refused").is_err());
}

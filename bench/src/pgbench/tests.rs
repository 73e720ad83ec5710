use super::*;

const TEXT: &str = "number of transactions actually processed: 83000\n\
                    number of failed transactions: 0 (0.000%)\n\
                    latency average = 2.3 ms\ninitial connection time = 90.1 ms\n\
                    tps = 27610.401 (without initial connection time)\n";

#[test]
fn the_rate_is_found_in_what_pgbench_writes() {
    assert_eq!(rate(TEXT), Some(27610.401));
    assert_eq!(rate(&TEXT.replace("actions: 0 ", "actions: 3 ")), None);
    assert_eq!(rate("pgbench: error: connection refused\n"), None);
}

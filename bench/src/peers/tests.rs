use super::*;

#[test]
fn the_rate_is_found_in_what_redis_benchmark_writes() {
    let text =
        "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET i:__rand_int__ abc EX 90\",\"47281.32\",\"0.914\"\n";
    assert_eq!(rate_of_csv(text), Some(47281.32));
    assert_eq!(rate_of_csv("Could not connect to Redis\n"), None);
}

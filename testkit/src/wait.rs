use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Waits until `condition` holds, asking every 10 ms.
///
/// # Panics
/// When it does not hold within `deadline`; `what` says what was waited for.
pub async fn wait_until(deadline: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

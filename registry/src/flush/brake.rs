use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::Flush;
use crate::lease::{Outcome, Submission, Write};

/// Writes the row that says what this node's brake has done, where no node has written it yet.
pub(super) async fn tell(flush: &Flush, submit: &mpsc::Sender<Submission>) {
    let Some((key, notice)) = flush.leases.brake_notice() else { return };
    let (reply, outcome) = oneshot::channel();
    let write = Write::Brake { hold: notice.hold, reason: notice.reason };
    let told =
        submit.send(Submission { key: key.clone(), write, actor: None, reply, place: None }).await.is_ok()
            && matches!(outcome.await, Ok(Outcome::Done { .. }));
    if !told {
        debug!(instance = %key, hold = notice.hold, "the brake could not be told to the log; tried again");
        flush.leases.brake_not_told(notice.hold);
    }
}

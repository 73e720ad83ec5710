use std::time::Duration;

use registry_wire::Status;

use super::Text;

/// Something that a person may want to read in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The service is healthy for the first time.
    Ready,
    /// The initial wait ended and the service is still not healthy.
    WaitOver {
        /// Why it is not.
        output: String,
    },
    /// A registration was acknowledged.
    Registered {
        /// By which registry URL, counted from 0.
        registry: usize,
        /// As what.
        status: Status,
        /// The time between two beats from now on.
        interval: Duration,
    },
    /// The registry does not know this instance any more; it registers again.
    Lost,
    /// Another process has taken this instance's id.
    Superseded,
    /// The service stopped answering; reported as critical.
    Failing {
        /// The last probe's reason.
        output: String,
    },
    /// The service answers again; reported as passing.
    Recovered,
    /// A call failed. The same reason is not repeated within ten minutes.
    Trouble {
        /// Which registry URL, counted from 0.
        registry: usize,
        /// Whether somebody has to do something about it.
        error: bool,
        /// What happened.
        reason: Text,
        /// Failed calls since the last good one.
        failures: u32,
    },
    /// The registry answers again.
    Reached {
        /// Which registry URL, counted from 0.
        registry: usize,
        /// How many calls had failed.
        failures: u32,
    },
    /// It begins to leave.
    Leaving {
        /// How long it stays, drained.
        drain: Duration,
    },
    /// The registry took the entry away.
    Deregistered,
    /// The time to leave is over and no registry said that the entry is gone; the lease will end by itself.
    LeftBehind,
}

//! From memory to the store: membership changes in group commits, beats once a tick, ended leases when they are due.
//!
//! In: [`Submission`]s, beats and ended leases from `lease`.
//! Owns: the batches, what is in flight, the decision that each change is made by.
//! Out: calls of `store`; committed changes to `fanout`, which applies them before they are acknowledged.

pub(crate) mod batch;
pub(crate) mod beats;
mod brake;
pub(crate) mod buffer;
mod commit;
mod decide;
pub(crate) mod expire;
pub(crate) mod revive;
mod trim;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

pub use self::buffer::Buffer;
use crate::{
    clock::Moment,
    entry::Change,
    lease::{Leases, Submission},
    metrics::Metrics,
    store::{Store, Writer},
};

/// Applies committed changes to the lease and the view.
pub type Apply = Arc<dyn Fn(&[Change]) + Send + Sync>;

/// The last row of the beat log that this node wrote, and the moment before it was written.
pub type OwnRow = (i64, Moment);

/// What the tasks of this stage work with.
#[derive(Clone)]
pub struct Flush {
    /// The store.
    pub store: Arc<Store>,
    /// The leases.
    pub leases: Arc<Leases>,
    /// Where committed changes go.
    pub apply: Apply,
    /// Where this node's own beat rows are made known, so that `fanout` can tell its sight by them.
    pub own_row: Arc<watch::Sender<OwnRow>>,
    /// This process run, in the beat log.
    pub writer: Writer,
    /// How often beats are written.
    pub tick: Duration,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// The tasks of this stage.
#[derive(Debug)]
pub struct Tasks {
    /// Ends after `stop`, when every change that was submitted is committed or refused.
    pub commits: JoinHandle<()>,
    /// Ends after `stop`, when the last beats are written or could not be.
    pub beats: JoinHandle<()>,
    /// Ends after `stop`.
    pub expiries: JoinHandle<()>,
}

impl Flush {
    /// Starts the tasks. `submit` leads to `submissions`; `stop` ends them, with a last batch of each kind.
    pub fn start(
        self,
        submissions: mpsc::Receiver<Submission>,
        submit: &mpsc::Sender<Submission>,
        stop: watch::Receiver<bool>,
    ) -> Tasks {
        let commits = tokio::spawn(commit::run(self.clone(), submissions, stop.clone()));
        let (missing_sender, missing) = mpsc::unbounded_channel();
        tokio::spawn(revive::run(self.clone(), missing, submit.downgrade()));
        tokio::spawn(trim::run(self.clone(), stop.clone()));
        let expiries = tokio::spawn(expire::run(self.clone(), submit.downgrade(), stop.clone()));
        let beats = tokio::spawn(beats::run(self, missing_sender, stop));
        Tasks { commits, beats, expiries }
    }
}

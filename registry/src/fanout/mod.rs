//! The one place that applies changes and beats, whoever wrote them, to the lease and to the view.
//!
//! In: committed changes from `flush`; the change log, the beat log and slices of the table from `store`.
//! Owns: the cursors into both logs, the order in which changes of a key are merged, the compare with the table, what
//! the store lost and readers still see, this node's sight.
//! Out: updates of `lease` and `view`; answers to who waits for a look at the change log.

mod apply;
mod compare;
mod follow;
mod history;
mod listen;
mod orphans;

pub use self::{apply::Applier, follow::Follower, listen::Listener};

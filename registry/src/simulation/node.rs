//! A node: the real cores, and the tasks that join them cut at each point at which the real ones wait.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use registry_wire::{Session, Status, Ttl};
use tokio::sync::{mpsc, oneshot};

use super::{TICK, Time};
use crate::{
    clock::{Moment, Sight, Sighting},
    entry::{Change, EntryId, Key, Revision, Tag},
    fanout::Applier,
    flush::{batch::Batch, buffer::Buffer},
    lease::{Bounds, Leases, Looks, Outcome, Submission},
    store::{BeatRow, BeatsWritten, Committed, Loaded, LogPage, LogRow, Mutation, Standing, Writer},
    view::View,
};

/// A node's own clock: it starts anywhere, and goes a little faster or slower than time does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) start: Duration,
    pub(super) rate: f64,
}

impl Clock {
    pub(super) fn at(&self, time: Time) -> Moment {
        Moment::from_start(self.start + time.mul_f64(self.rate))
    }

    /// When the clock showed this moment; zero for one before the schedule began.
    pub(super) fn when(&self, moment: Moment) -> Time {
        moment.since(Moment::from_start(self.start)).div_f64(self.rate)
    }

    /// How long it takes until this clock has gone on by `span`.
    pub(super) fn takes(&self, span: Duration) -> Duration {
        span.div_f64(self.rate)
    }
}

/// What a client asks of a node.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) number: u64,
    pub(super) sidecar: usize,
    pub(super) kind: OpKind,
    pub(super) key: usize,
    pub(super) session: Option<Session>,
    pub(super) arrived: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpKind {
    Register,
    Beat(Option<Status>),
    Deregister,
}

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Unknown,
    Superseded,
    Unavailable,
}

/// A task with one call of the store at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    Beats,
    Follow,
    Commit,
    Expire,
    Revive,
}

#[derive(Debug)]
pub(super) enum Request {
    Load,
    Read(Vec<Key>),
    Commit(Vec<Mutation>),
    /// `taken`: when the beats were taken out of memory.
    WriteBeats {
        seq: i64,
        ids: Vec<EntryId>,
        waited: Duration,
        taken: Time,
    },
    BeatsAfter(BTreeMap<Writer, i64>),
    ChangesAfter(Revision, Vec<Tag>),
    Note(Vec<EntryId>),
    Expired(Vec<EntryId>),
}

impl Request {
    pub(super) const fn writes(&self) -> bool {
        matches!(self, Self::Commit(_) | Self::WriteBeats { .. })
    }

    /// For people; polls are left out.
    pub(super) fn words(&self) -> String {
        match self {
            Self::BeatsAfter(_) | Self::ChangesAfter(..) | Self::Load => String::new(),
            Self::WriteBeats { seq, ids, .. } => format!("row {seq} {ids:?}"),
            Self::Read(keys) => format!("{:?}", keys.iter().map(ToString::to_string).collect::<Vec<_>>()),
            Self::Note(ids) | Self::Expired(ids) => format!("{ids:?}"),
            Self::Commit(batch) => {
                let mutation = |mutation: &Mutation| {
                    let record = &mutation.body.record;
                    let (kind, expected, noted) = (mutation.kind, mutation.expected, mutation.noted_beat);
                    format!(
                        "{kind:?} {} {:?} expected {expected:?} noted {noted:?}; ",
                        record.key(),
                        record.session
                    )
                };
                batch.iter().map(mutation).collect()
            }
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Read(_) => "read",
            Self::Commit(_) => "commit",
            Self::WriteBeats { .. } => "write-beats",
            Self::BeatsAfter(_) => "beats-after",
            Self::ChangesAfter(..) => "changes-after",
            Self::Note(_) => "note",
            Self::Expired(_) => "expired",
        }
    }
}

#[derive(Debug)]
pub(super) enum Response {
    Loaded(Loaded),
    Standings(Vec<Standing>),
    Committed(Committed),
    Written(BeatsWritten),
    Beats(Vec<BeatRow>),
    /// And how many there can be in an answer.
    Changes(LogPage, usize),
    Noted(Vec<(EntryId, i64)>),
    Expired(Vec<Change>),
    Failed,
}

impl Response {
    /// For people; what polls give is left out where it is nothing.
    pub(super) fn words(&self, of: &str) -> String {
        let row = |change: &Change| {
            let Change { revision, id, kind, body, .. } = change;
            format!("{revision} {kind:?} {} {:?} id {id}; ", body.record.key(), body.record.session)
        };
        let rows = |changes: &[Change]| changes.iter().map(row).collect::<String>();
        match self {
            Self::Changes(page, _) if page.rows.is_empty() => String::new(),
            Self::Changes(page, _) => {
                let change = |log: &LogRow| match log {
                    LogRow::Change(change) => row(change),
                    other => format!("{other:?}; "),
                };
                format!("{of}: {}", page.rows.iter().map(change).collect::<String>())
            }
            Self::Beats(beats) if beats.iter().all(|row| row.ids.is_empty()) => String::new(),
            Self::Written(written) if *written == BeatsWritten::default() => String::new(),
            Self::Expired(changes) => format!("{of}: {}", rows(changes)),
            Self::Loaded(loaded) => format!("{of}: head {}, {} entries", loaded.head, loaded.entries.len()),
            Self::Committed(Committed::Done(changes)) => {
                format!("{of}: done {}", changes.iter().flatten().map(row).collect::<String>())
            }
            Self::Standings(_) => String::new(),
            other => format!("{of}: {other:?}"),
        }
    }
}

/// The next thing that a node does.
#[derive(Debug)]
pub(super) enum Step {
    Start,
    BeatTick,
    /// The reader of the logs waits again.
    FollowWake,
    FollowTick,
    Hint,
    CommitWake,
    ExpireTick,
    ReviveWake,
    Response(Task, u64, Response),
    /// The deadline of a call of the store.
    CallLate(Task, u64),
    Op(Op),
    /// The deadline of a commit.
    OpLate(u64),
    /// The look that an operation waited for is there.
    Looked(u64),
    LookLate(u64),
}

#[derive(Debug)]
pub(super) enum Follow {
    /// Not started, or between two reads.
    Busy,
    Waiting,
    Loading {
        before: Moment,
    },
    Beats {
        begun: Moment,
        own: (i64, Moment),
    },
    Changes {
        begun: Moment,
        own: (i64, Moment),
    },
}

#[derive(Debug)]
pub(super) enum Commit {
    Idle,
    Reading { submissions: Vec<Submission>, attempts: usize },
    Committing { batch: Batch, attempts: usize },
}

/// Whose outcome it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyTo {
    Op(u64),
    Expire(EntryId),
    Revive(EntryId),
}

/// One process run.
#[expect(clippy::struct_excessive_bools, reason = "each stands for a task's own state")]
pub(super) struct Node {
    pub(super) generation: u64,
    pub(super) up: bool,
    pub(super) paused: bool,
    pub(super) deferred: Vec<(u64, Step)>,
    pub(super) clock: Clock,
    /// A mistake: the beats of others are not heard.
    pub(super) deaf: bool,
    pub(super) writer: Writer,
    pub(super) leases: Arc<Leases>,
    pub(super) view: Arc<View>,
    pub(super) applier: Applier,
    /// The call that each task waits for.
    pub(super) calls: BTreeMap<Task, u64>,
    pub(super) next_tick: BTreeMap<Task, Time>,

    pub(super) buffer: Buffer,
    /// The row on its way: its number, its beats, the moment before.
    pub(super) row: Option<(i64, Moment)>,
    pub(super) own_row: (i64, Moment),
    pub(super) own_changed: bool,

    pub(super) follow: Follow,
    pub(super) asked: bool,

    pub(super) waiting: VecDeque<Submission>,
    pub(super) commit: Commit,

    pub(super) noting: Vec<EntryId>,
    pub(super) removing: usize,

    pub(super) missing: BTreeSet<EntryId>,
    pub(super) reviving: BTreeSet<EntryId>,
    pub(super) revive_replies: usize,
    pub(super) revive_idle: bool,

    pub(super) ops: BTreeMap<u64, Op>,
    /// Beats that wait for a look that began after they came.
    pub(super) looking: Vec<(u64, Moment)>,
    pub(super) replies: Vec<(oneshot::Receiver<Outcome>, ReplyTo)>,
    /// The last revision seen of each key, which must only grow.
    pub(super) revisions: BTreeMap<Key, Revision>,
}

impl Node {
    pub(super) fn new(generation: u64, writer: Writer, clock: Clock, deaf: bool) -> Self {
        let (look, _) = Looks::new();
        let (submit, _) = mpsc::channel(1);
        let leases = Leases::new(Sight::ticking(TICK), look, submit, Ttl::default(), Bounds::none());
        let view = Arc::new(View::default());
        let applier = Applier::new(Arc::clone(&leases), Arc::clone(&view));
        Self {
            generation,
            up: true,
            paused: false,
            deferred: Vec::new(),
            clock,
            deaf,
            writer,
            leases,
            view,
            applier,
            calls: BTreeMap::new(),
            next_tick: BTreeMap::new(),
            buffer: Buffer::new(),
            row: None,
            own_row: (0, Moment::NEVER),
            own_changed: false,
            follow: Follow::Busy,
            asked: false,
            waiting: VecDeque::new(),
            commit: Commit::Idle,
            noting: Vec::new(),
            removing: 0,
            missing: BTreeSet::new(),
            reviving: BTreeSet::new(),
            revive_replies: 0,
            revive_idle: true,
            ops: BTreeMap::new(),
            looking: Vec::new(),
            replies: Vec::new(),
            revisions: BTreeMap::new(),
        }
    }

    /// What the node sees.
    pub(super) fn sighting(&self, now: Time) -> Sighting {
        self.leases.sighting(self.clock.at(now))
    }

    pub(super) fn sees(&self, now: Time) -> bool {
        self.up && !self.leases.sighting(self.clock.at(now)).blind
    }

    /// How far back in time, by nobody's clock, what the node has seen reaches.
    pub(super) fn sight(&self, now: Time) -> Time {
        self.clock.when(self.leases.sighting(self.clock.at(now)).sight)
    }

    /// Since when every lease counts anew.
    pub(super) fn floor(&self, now: Time) -> Time {
        self.clock.when(self.leases.sighting(self.clock.at(now)).floor)
    }

    /// Whether a list that is read now holds this key.
    pub(super) fn lists(&self, key: &Key, sighting: &Sighting) -> bool {
        self.view.service(&key.service).is_some_and(|service| {
            service.listed(sighting).any(|entry| entry.record.instance() == key.instance.as_str())
        })
    }

    /// Whether a list that is read now says that this key is stale.
    pub(super) fn calls_stale(&self, key: &Key, sighting: &Sighting) -> bool {
        self.view.service(&key.service).is_some_and(|service| {
            service
                .listed(sighting)
                .any(|entry| entry.record.instance() == key.instance.as_str() && entry.life().stale(sighting))
        })
    }

    /// Whether nothing is under way that could change what the node holds.
    pub(super) fn at_rest(&self) -> bool {
        self.waiting.is_empty()
            && matches!(self.commit, Commit::Idle)
            && self.missing.is_empty()
            && self.reviving.is_empty()
    }
}

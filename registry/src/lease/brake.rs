//! The brake on mass death: while too many are silent at once, none of them ends.
//!
//! A fleet that falls silent at once has more likely lost its way to the registry than its life; a list that is emptied
//! then does the damage that the registry is there to prevent. But it may be dead, and must not be listed for ever.
//! See `docs/adr/0003-the-brake.md`. Pure: moments in, decisions out; one brake for all leases of a node.

use std::{collections::BTreeSet, time::Duration};

use registry_wire::Ttl;

use crate::{clock::Moment, entry::EntryId};

/// How many TTLs a lease is held after it would have ended.
const HOLD_TTLS: u32 = 2;

/// Of the most that were held, so many hundredths are let go in a TTL...
const LET_GO_PERCENT: u128 = 15;

/// ...and at least so many.
const LET_GO_LEAST: u128 = 10;

/// More than a third of all, but also more than this, are too many.
const THIRD_LEAST: usize = 10;

/// More than half of all, but also more than this, are too many.
const HALF_LEAST: usize = 2;

/// The longest TTL in seconds, a thousand times: what one TTL of it counts in [`Brake::turns`].
const TURNS: u64 = 3_600_000;

/// After this part of its TTL without a beat an instance is silent. A third of the TTL is left to notice that many
/// are, before the first lease can end.
pub(super) fn silence(ttl: Duration) -> Duration {
    ttl * 2 / 3
}

/// What a lease is to the brake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It was registered and has not been renewed: nothing says that anybody means to. Not counted, never held.
    New,
    /// It was renewed, by a beat or a registration, and not long ago.
    Beating,
    /// It was, for two thirds of its TTL ago or more.
    Silent,
    /// Its lease would have ended, but for the brake.
    Held {
        /// From then on it may be let go.
        until: Moment,
        /// Its TTL when it was held.
        ttl: Ttl,
    },
    /// Its lease has ended.
    Ended,
}

/// How many leases there are of each kind. New and ended ones count in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Instances that have ever beaten and whose lease has not ended.
    pub all: usize,
    /// Of those, the silent and the held ones.
    pub silent: usize,
    /// Of those, the ones whose lease would have ended.
    pub held: usize,
}

impl Census {
    /// More than a third of all and more than 10, or more than half and more than 2.
    pub const fn too_many_silent(&self) -> bool {
        (self.silent > THIRD_LEAST && self.silent * 3 > self.all)
            || (self.silent > HALF_LEAST && self.silent * 2 > self.all)
    }
}

/// What the brake has done, for the log of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrakeEvent {
    /// Too many are silent: from here on none of them ends.
    On(Census),
    /// The holds are over: the held ones are let go, so many in a TTL.
    LettingGo {
        /// The most that were held.
        held: usize,
        /// How many go in a TTL.
        per_ttl: usize,
    },
    /// Nothing is held any more, and not too many are silent.
    Over {
        /// The most that were held.
        held: usize,
        /// How many of them this node let go, or saw go. The others came back, or were removed by a client.
        let_go: usize,
    },
}

/// Whether a row of the change log says what this node's brake has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Row {
    /// There is nothing to say.
    #[default]
    Idle,
    /// It is to be written.
    Wanted,
    /// It is on its way.
    Asked,
    /// It is there, written by this node or by another.
    Written,
}

/// A row of the change log that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `true`: the brake is on (`hold`). `false`: the held ones are being let go (`release`).
    pub hold: bool,
    /// An entry that it is written at.
    pub at: EntryId,
    /// The words that stand in it.
    pub reason: String,
}

/// The brake of one node.
#[derive(Debug)]
pub(super) struct Brake {
    census: Census,
    /// Stays on for so long after the last reason: by then every node has read what the others knew.
    linger: Duration,
    on: bool,
    /// When there was last a reason: too many were silent, or another node said so.
    last_reason: Moment,
    /// Held entries whose time is not over, in the order of its end.
    holding: BTreeSet<(Moment, EntryId)>,
    /// Held entries that may be let go, in the order in which they are: the same on all nodes, and random.
    ripe: BTreeSet<(u64, EntryId)>,
    /// Of all that are held, [`TURNS`] / TTL in seconds, summed up: their mean TTL is `held` × [`TURNS`] / this.
    turns: u64,
    /// From the first reason until nothing is held any more.
    episode: Option<Episode>,
}

/// What happened since the brake was put on.
#[derive(Debug)]
struct Episode {
    /// The most that were held at once.
    held: usize,
    /// From one that is let go to the next.
    pace: Duration,
    /// When the next may be let go. One that another node let go postpones it too.
    next: Moment,
    let_go: usize,
    hold_row: Row,
    release_row: Row,
    /// An entry for rows to be written at: any that is silent.
    witness: EntryId,
}

impl Brake {
    /// A brake that lingers for so long.
    pub(super) const fn new(linger: Duration) -> Self {
        Self {
            census: Census { all: 0, silent: 0, held: 0 },
            linger,
            on: false,
            last_reason: Moment::NEVER,
            holding: BTreeSet::new(),
            ripe: BTreeSet::new(),
            turns: 0,
            episode: None,
        }
    }

    /// Whether a silent lease that comes to its end is held. The one place where the brake is asked.
    pub(super) const fn holds(&self) -> bool {
        self.on
    }

    pub(super) const fn census(&self) -> Census {
        self.census
    }

    /// A lease becomes something else.
    pub(super) fn becomes(&mut self, id: EntryId, life: &mut Life, next: Life) {
        match *life {
            Life::New | Life::Ended => {}
            Life::Beating => self.census.all -= 1,
            Life::Silent => {
                self.census.all -= 1;
                self.census.silent -= 1;
            }
            Life::Held { until, ttl } => {
                self.census.all -= 1;
                self.census.silent -= 1;
                self.census.held -= 1;
                self.turns -= turns(ttl);
                let _ = self.holding.remove(&(until, id)) || self.ripe.remove(&(shuffled(id), id));
            }
        }
        match next {
            Life::New | Life::Ended => {}
            Life::Beating => self.census.all += 1,
            Life::Silent => {
                self.census.all += 1;
                self.census.silent += 1;
                self.witnessed(id);
            }
            Life::Held { until, ttl } => {
                self.census.all += 1;
                self.census.silent += 1;
                self.census.held += 1;
                self.turns += turns(ttl);
                self.holding.insert((until, id));
                self.witnessed(id);
            }
        }
        *life = next;
    }

    fn witnessed(&mut self, id: EntryId) {
        if let Some(episode) = &mut self.episode {
            episode.witness = id;
        }
    }

    /// Puts the brake on or takes it off, after every lease that is silent was counted and before any ends.
    /// `witness` is one of the silent ones.
    pub(super) fn judge(&mut self, sight: Moment, witness: Option<EntryId>) -> Option<BrakeEvent> {
        if self.census.too_many_silent() {
            self.last_reason = self.last_reason.max(sight);
        }
        self.on = sight < self.last_reason.plus(self.linger) || self.census.too_many_silent();
        if self.on && self.episode.is_none() {
            self.begin(witness, Row::Wanted);
            return Some(BrakeEvent::On(self.census));
        }
        None
    }

    fn begin(&mut self, witness: Option<EntryId>, hold_row: Row) {
        self.episode = Some(Episode {
            held: 0,
            pace: Duration::ZERO,
            next: Moment::NEVER,
            let_go: 0,
            hold_row,
            release_row: Row::Idle,
            witness: witness.unwrap_or_default(),
        });
    }

    /// A lease that comes to its end at `since` is held. What it becomes.
    pub(super) fn held_from(since: Moment, ttl: Ttl) -> Life {
        Life::Held { until: since.plus(ttl.duration() * HOLD_TTLS), ttl }
    }

    /// After leases were held: how fast they will be let go.
    pub(super) fn measure(&mut self) {
        if let Some(episode) = &mut self.episode
            && self.census.held > episode.held
        {
            episode.held = self.census.held;
            episode.pace = pace(self.census.held, self.turns);
        }
    }

    /// The held leases to let go now. The caller makes each of them [`Life::Ended`].
    pub(super) fn let_go(&mut self, sight: Moment) -> (Vec<EntryId>, Option<BrakeEvent>) {
        let mut going = Vec::new();
        let Some(episode) = &mut self.episode else { return (going, None) };
        let mut first = None;
        while let Some((until, id)) = self.holding.first().copied()
            && until <= sight
        {
            self.holding.pop_first();
            if self.ripe.is_empty() {
                // Nobody was there to be let go until now: what was not used of the pace is lost.
                episode.next = episode.next.max(until);
            }
            self.ripe.insert((shuffled(id), id));
        }
        while episode.next <= sight
            && let Some((_, id)) = self.ripe.pop_first()
        {
            if episode.release_row == Row::Idle {
                episode.release_row = Row::Wanted;
                episode.witness = id;
                let per_ttl = quota(episode.held);
                first = Some(BrakeEvent::LettingGo { held: episode.held, per_ttl });
            }
            going.push(id);
            episode.let_go += 1;
            episode.next = episode.next.plus(episode.pace);
        }
        (going, first)
    }

    /// Ends the episode when there is nothing left of it.
    pub(super) fn finish(&mut self) -> Option<BrakeEvent> {
        if self.on || self.census.held > 0 {
            return None;
        }
        let Episode { held, let_go, .. } = self.episode.take()?;
        Some(BrakeEvent::Over { held, let_go })
    }

    /// Another node removed an entry that is held here: it counts as let go by all. `now` is when this was read.
    pub(super) fn removed_elsewhere(&mut self, life: Life, now: Moment) {
        if let (Life::Held { .. }, Some(episode)) = (life, &mut self.episode) {
            episode.let_go += 1;
            episode.next = episode.next.max(now).plus(episode.pace);
        }
    }

    /// The change log says that a node's brake is on (`hold`), or that its held entries are let go.
    pub(super) fn heard(&mut self, hold: bool, now: Moment, at: EntryId) -> Option<BrakeEvent> {
        if !hold {
            if let Some(episode) = &mut self.episode {
                episode.release_row = Row::Written;
            }
            return None;
        }
        self.last_reason = self.last_reason.max(now);
        self.on = true;
        if let Some(episode) = &mut self.episode {
            episode.hold_row = Row::Written;
            return None;
        }
        self.begin(Some(at), Row::Written);
        Some(BrakeEvent::On(self.census))
    }

    /// A row that is to be written now; see [`Brake::not_told`].
    pub(super) fn notice(&mut self) -> Option<Notice> {
        let census = self.census;
        let episode = self.episode.as_mut()?;
        let at = episode.witness;
        if episode.hold_row == Row::Wanted {
            episode.hold_row = Row::Asked;
            let reason = format!(
                "{} of {} instances that beat are silent: none of them ends for {HOLD_TTLS} TTLs",
                census.silent, census.all
            );
            return Some(Notice { hold: true, at, reason });
        }
        if episode.release_row == Row::Wanted {
            episode.release_row = Row::Asked;
            let per_ttl = quota(episode.held);
            let reason = format!(
                "{} instances were held in vain: {per_ttl} of them are let go in a TTL",
                episode.held
            );
            return Some(Notice { hold: false, at, reason });
        }
        None
    }

    /// One of the held, if there is any.
    pub(super) fn any_held(&self) -> Option<EntryId> {
        let holding = self.holding.first().map(|(_, id)| *id);
        holding.or_else(|| self.ripe.first().map(|(_, id)| *id))
    }

    /// The row could not be written: it is still to be.
    pub(super) fn not_told(&mut self, hold: bool) {
        if let Some(episode) = &mut self.episode {
            let row = if hold { &mut episode.hold_row } else { &mut episode.release_row };
            if *row == Row::Asked {
                *row = Row::Wanted;
            }
        }
    }
}

fn turns(ttl: Ttl) -> u64 {
    TURNS / u64::from(ttl.seconds()).max(1)
}

/// How many of so many are let go in a TTL.
fn quota(held: usize) -> usize {
    let quota = (held as u128 * LET_GO_PERCENT / 100).max(LET_GO_LEAST);
    usize::try_from(quota).unwrap_or(usize::MAX)
}

/// The (harmonic) mean TTL of so many held ones, divided by how many of them are let go in it.
fn pace(held: usize, turns: u64) -> Duration {
    let held = held as u128;
    // In hundredths, as 15 % of 70 are 10.5.
    let quota = (held * LET_GO_PERCENT).max(LET_GO_LEAST * 100);
    let nanos = held * u128::from(TURNS) * 1_000_000_000 * 100 / (u128::from(turns).max(1) * quota);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A number that looks random and is the same on every node (the finaliser of splitmix64): nodes that let go at once
/// let the same ones go.
const fn shuffled(id: EntryId) -> u64 {
    let mut mixed = id.cast_unsigned().wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;

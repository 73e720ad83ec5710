//! The verdicts, from what only the simulation knows: true time, every beat, the store's tables at each moment.

use std::{collections::BTreeMap, time::Duration};

use super::{
    TICK, Time,
    node::{Answer, Node, Op, OpKind},
    plan::{Plan, ticks},
    store::ModelStore,
};
use crate::entry::{EntryId, Key};

/// Until a beat that a healthy node acknowledged counts on every node, a revival included: it is written within
/// three ticks, and a node whose sight does not reach that far three ticks later is blind. By the slowest clock.
const EVERYWHERE: Duration = TICK.saturating_mul(7);

/// A moment from which a lease counts anew.
#[derive(Clone, Debug)]
struct Touch {
    at: Time,
    /// [`Judge::seen`] at that moment.
    seen: Duration,
    /// The node that acknowledged it, and in which process run. A change has none.
    by: Option<(usize, u64)>,
    id: EntryId,
    /// When it was in the store.
    committed: Option<Time>,
}

#[derive(Debug, Default)]
struct Instance {
    /// Its last acknowledged beat, whatever is required of it.
    beaten: Time,
    touches: Vec<Touch>,
    /// The first of the last touches between which never so much time lay that a node could have missed one.
    chain: Option<Time>,
    /// Removals that are asked for and not answered.
    removals: usize,
    /// Until then a removal that was asked for may still happen.
    removable: Time,
}

/// What the judge knows.
#[derive(Debug)]
pub(super) struct Judge {
    instances: Vec<Instance>,
    ttls: Vec<Duration>,
    /// How much time at least one node saw its store.
    seen: Duration,
    last: Time,
    sighted: bool,
    pub(super) verdict: Option<String>,
    /// The last row of beats of each process run.
    rows: BTreeMap<(usize, u64), Time>,
    /// How many answers were judged, and how many entries had to be in them.
    pub(super) judged: u64,
    pub(super) required: u64,
}

impl Judge {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            instances: plan.ttls.iter().map(|_| Instance::default()).collect(),
            ttls: plan.ttls.iter().map(|ttl| Duration::from_secs(u64::from(*ttl))).collect(),
            seen: Duration::ZERO,
            last: Duration::ZERO,
            sighted: false,
            verdict: None,
            rows: BTreeMap::new(),
            judged: 0,
            required: 0,
        }
    }

    pub(super) fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.verdict.is_none() {
            self.verdict = Some(what());
        }
    }

    /// Time goes on. Time in which any node saw its store counts in full: the less is asked of them.
    pub(super) fn time(&mut self, now: Time, any_sees: bool) {
        if any_sees || self.sighted {
            self.seen += now.saturating_sub(self.last);
        }
        (self.last, self.sighted) = (now, any_sees);
    }

    /// A removal is asked for: until some time after its answer nothing is required of this instance.
    pub(super) fn removal_sent(&mut self, key: usize) {
        let instance = &mut self.instances[key];
        instance.removals += 1;
        instance.touches.clear();
        instance.chain = None;
    }

    pub(super) fn removal_over(&mut self, key: usize, now: Time) {
        let instance = &mut self.instances[key];
        instance.removals -= 1;
        instance.removable = now + EVERYWHERE;
    }

    /// A node may acknowledge beats only while it is proved that it can write them.
    pub(super) fn acknowledged(&mut self, by: (usize, u64), node: &Node, now: Time) {
        let proved = self.rows.get(&by).copied().unwrap_or_default().max(node.floor(now));
        if now > proved + node.clock.takes(TICK * 3) {
            self.fail(|| format!("blind ack: node {} took a beat, and wrote last at {proved:?}", by.0));
        }
    }

    /// A node acknowledged a beat.
    pub(super) fn beat(&mut self, plan: &Plan, key: usize, by: (usize, u64), id: EntryId, now: Time) {
        self.instances[key].beaten = now;
        self.touch(plan, key, Touch { at: now, seen: self.seen, by: Some(by), id, committed: None });
    }

    /// The store holds a change that counts a lease anew.
    pub(super) fn change(&mut self, plan: &Plan, key: usize, id: EntryId, now: Time) {
        self.touch(plan, key, Touch { at: now, seen: self.seen, by: None, id, committed: Some(now) });
    }

    /// The store holds an entry again, for a beat that a node had acknowledged before it was removed, and which was so
    /// old when that was sent.
    pub(super) fn revived(
        &mut self,
        key: usize,
        by: (usize, u64),
        (id, waited): (EntryId, Duration),
        now: Time,
    ) {
        for touch in &mut self.instances[key].touches {
            if touch.by == Some(by) && touch.committed.is_none() && touch.at <= now.saturating_sub(waited) {
                (touch.id, touch.committed) = (id, Some(now));
            }
        }
    }

    fn touch(&mut self, plan: &Plan, key: usize, touch: Touch) {
        let ttl = self.ttls[key].div_f64(plan.fastest_clock());
        let instance = &mut self.instances[key];
        if instance.removals > 0 || touch.at < instance.removable {
            return;
        }
        let unbroken = instance.touches.last().is_some_and(|last| {
            let sure = last.by.is_none_or(|(node, _)| !plan.faulty(node, last.at, last.at + ticks(3.0)));
            sure && touch.seen.saturating_sub(last.seen) + EVERYWHERE.div_f64(2.0) < ttl
        });
        if !unbroken {
            instance.chain = Some(touch.at);
        }
        let now = touch.seen;
        instance.touches.retain(|touch| now.saturating_sub(touch.seen) <= ttl);
        instance.touches.push(touch);
    }

    /// A row of beats is in the store; those of `missing` entries are not. The beats were taken out of the node's
    /// memory at `taken`.
    pub(super) fn row(
        &mut self,
        by: (usize, u64),
        ids: &[EntryId],
        missing: &[EntryId],
        taken: Time,
        now: Time,
    ) {
        self.rows.insert(by, now);
        for touch in self.instances.iter_mut().flat_map(|instance| &mut instance.touches) {
            if touch.by == Some(by)
                && touch.at <= taken
                && touch.committed.is_none()
                && ids.contains(&touch.id)
                && !missing.contains(&touch.id)
            {
                touch.committed = Some(now);
            }
        }
    }

    /// Judges whether an answer of a node names or leaves out an instance rightly.
    pub(super) fn list(
        &mut self,
        (plan, store): (&Plan, &ModelStore),
        (number, node): (usize, &Node),
        (place, key): (usize, &Key),
        now: Time,
    ) {
        let sighting = node.sighting(now);
        let listed = node.lists(key, &sighting);
        self.judged += 1;
        if let Some(touch) = self.required(plan, number, node, place, now) {
            self.required += 1;
            if !listed {
                let (at, committed) = (touch.at, touch.committed);
                self.fail(|| {
                    format!(
                        "false expiry: node {number} leaves out {key}, which beat at {at:?} by {:?}, in the store at \
                         {committed:?}; the node sees up to {:?}",
                        touch.by,
                        node.sight(now)
                    )
                });
            }
        }
        let id = store.instances().get(key).map(|stored| stored.id);
        let here = |touch: &&Touch| touch.by == Some((number, node.generation)) && Some(touch.id) == id;
        let forgotten =
            |touch: &&Touch| touch.committed.is_none() && !node.leases.has_unwritten_beat(touch.id);
        if let Some(touch) = self.instances[place].touches.iter().filter(here).find(forgotten) {
            let at = touch.at;
            self.fail(|| {
                format!("lost beat: node {number} acknowledged one of {key} at {at:?} and forgot it")
            });
        }
        let lease = self.ttls[place].div_f64(node.clock.rate);
        let heard = store.last_beat.get(key).copied().unwrap_or_default();
        let beaten = self.instances[place].beaten;
        let last = heard.max(beaten).max(node.floor(now));
        // At most a tick until the next row of its own, and what the calls take.
        let well = plan.latency < ticks(0.05) && plan.hint_loss == 0.0 && !plan.faulty(number, last, now);
        let late = if well { ticks(1.5) } else { TICK * 7 };
        if listed && !sighting.blind && now > last + lease + node.clock.takes(late) {
            self.fail(|| {
                format!("zombie: node {number} lists {key}, last heard of {heard:?}, beaten {beaten:?}")
            });
        }
        // A beat that waited elsewhere for the store is old when it comes. How long it waited is measured by another clock,
        // and a row that this node itself was kept from reading may be older than it can tell.
        let changed = store.last_change.get(key).copied().unwrap_or_default();
        let alive = changed.max(beaten);
        let drift = now.saturating_sub(alive).mul_f64(plan.fastest_clock() / plan.slowest_clock() - 1.0);
        if listed
            && !node.calls_stale(key, &sighting)
            && !plan.faulty(number, alive, now)
            && now > alive + lease + drift + node.clock.takes(TICK * 7)
        {
            self.fail(|| {
                format!("zombie: node {number} calls {key} fresh, changed {changed:?}, beaten {beaten:?}")
            });
        }
        let written = store.last_written.get(key).copied().unwrap_or_default();
        let last = written.max(last);
        let healthy = !plan.faulty(number, last + lease, now);
        if healthy && store.instances().contains_key(key) && now > last + lease + node.clock.takes(TICK * 14)
        {
            self.fail(|| {
                format!("zombie: {key} is in the store, last written {written:?}, and node {number} sees")
            });
        }
    }

    /// The beat for which this node must list the instance now.
    fn required(&self, plan: &Plan, number: usize, node: &Node, place: usize, now: Time) -> Option<Touch> {
        let instance = &self.instances[place];
        let ttl = self.ttls[place].div_f64(plan.fastest_clock());
        let sight = node.sight(now);
        let slack = Duration::from_micros(1);
        // For how long a beat waited for the store is measured by the clock of the node that took it.
        let drift = plan.fastest_clock() / plan.slowest_clock() - 1.0;
        let must = |touch: &&Touch| {
            let waited = touch.committed.unwrap_or(now).saturating_sub(touch.at);
            if self.seen.saturating_sub(touch.seen) + slack + waited.mul_f64(drift) >= ttl
                || instance.removals > 0
            {
                return false;
            }
            // The node heard it itself, and it was not lost for another entry that took the place meanwhile; or it has
            // read of it.
            let here = touch.by == Some((number, node.generation));
            if here && (touch.committed.is_some() || node.leases.has_unwritten_beat(touch.id))
                || touch.committed.is_some_and(|committed| committed + slack <= sight)
            {
                return true;
            }
            // It must have, whatever became of the beat: who acknowledged it was well for three ticks after.
            let sure = touch.by.is_none_or(|(by, _)| !plan.faulty(by, touch.at, touch.at + ticks(3.0)));
            let everywhere = EVERYWHERE.div_f64(plan.slowest_clock());
            let known = instance.chain.is_some_and(|chain| chain + everywhere <= sight);
            sure && known && touch.at + everywhere <= now
        };
        instance.touches.iter().rev().find(must).cloned()
    }

    /// Judges the answer of an operation.
    pub(super) fn answered(
        &mut self,
        store: &ModelStore,
        key: &Key,
        (op, answer): (&Op, Answer),
        calm: bool,
        now: Time,
    ) {
        let session = op.session.as_ref();
        let ended = session.and_then(|session| store.ended_at(key, session));
        match (op.kind, answer) {
            (OpKind::Register, Answer::Done) if !store.holds_registration(key, session) => {
                self.fail(|| format!("lost ack: {key} of {session:?} is not in the store"));
            }
            (OpKind::Register | OpKind::Deregister, Answer::Done)
                if ended.is_some_and(|at| at < op.arrived) =>
            {
                self.fail(|| {
                    format!("ended session: a {:?} of {key} by {session:?} was accepted, which ended at {ended:?}", op.kind)
                });
            }
            (OpKind::Beat(_), Answer::Done) if ended.is_some_and(|at| at + ticks(3.4) < op.arrived) => {
                self.fail(|| {
                    format!(
                        "ended session: a beat of {key} by {session:?} was accepted, which ended at {ended:?}"
                    )
                });
            }
            (_, Answer::Unknown) if !store.was_without(key, session, op.arrived) => {
                self.fail(|| {
                    format!("false 404: {key} of {session:?} was in the store all the time ({:?})", op.kind)
                });
            }
            (_, Answer::Superseded) if ended.is_none() => {
                self.fail(|| format!("false 409: {session:?} of {key} has not ended ({:?})", op.kind));
            }
            (_, Answer::Unavailable) if calm => {
                self.fail(|| format!("refused: {:?} of {key} at {now:?}, and nothing is wrong", op.kind));
            }
            _ => {}
        }
    }
}

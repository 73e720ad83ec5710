//! How leases end: silent first, then over, then judged by the brake, noted, and handed out for removal.

use std::{cmp::Reverse, time::Duration};

use super::{
    Core,
    brake::{Brake, BrakeEvent, Census, Life, Notice, silence},
    core::Ending,
};
use crate::{
    clock::{Moment, Sighting},
    entry::{EntryId, Key},
    seeded::{Bug, seeded},
};

/// When a lease whose removal did not come about is looked at again.
const RETRY: Duration = Duration::from_secs(1);

/// A lease that has ended and whose time for removal has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The entry.
    pub id: EntryId,
    /// Its name.
    pub key: Key,
    /// Its beats in the store when the lease ended.
    pub noted_beat: i64,
    /// Its last beat.
    pub last_seen: Moment,
    /// For how long it was held, if it was.
    pub held_for: Option<Duration>,
}

impl Core {
    /// Looks at up to `most` leases of which there may be something to say. Returns whether there may be more: all of
    /// them come before [`Core::judge`], which must know who is silent before anybody ends.
    pub fn sift(&mut self, sighting: &Sighting, most: usize) -> bool {
        if sighting.blind {
            return false;
        }
        if self.floor < sighting.floor {
            self.floor = sighting.floor;
            self.to_count = Some(0);
            self.witness = None;
        }
        if let Some(part) = self.to_count {
            self.to_count = self.count_anew(sighting, part).then_some(part + 1);
            return true;
        }
        for _ in 0..most {
            let Some(Reverse((turn, id))) =
                self.deadlines.peek().copied().filter(|Reverse((turn, _))| *turn <= sighting.sight)
            else {
                return false;
            };
            self.deadlines.pop();
            let Some(lease) = self.leases.by_id_mut(id) else {
                continue;
            };
            if lease.queued != Some(turn) {
                continue;
            }
            lease.queued = None;
            if matches!(lease.life, Life::Held { .. }) {
                // A removal that was under way since an earlier end put it here. What ends it is the hold.
                continue;
            }
            if lease.ended(sighting) {
                // It was to be removed, and that did not come about.
                self.ended.push(id);
                continue;
            }
            let from = lease.pulse().counted_from(sighting);
            if lease.life == Life::Beating && from.plus(silence(lease.ttl().duration())) <= sighting.sight {
                self.brake.becomes(id, &mut lease.life, Life::Silent);
                self.witness = Some(id);
            }
            if sighting.ended(lease.pulse().last_seen(), lease.ttl().duration()) {
                self.over.push(id);
            } else {
                lease.queue(lease.next_turn(from), &mut self.deadlines);
            }
        }
        true
    }

    /// Ends the leases that are over, or holds them while too many are silent; lets held ones go when it is time. Looks
    /// at up to `most` that are over, and returns whether there are more.
    pub fn judge(&mut self, sighting: &Sighting, most: usize) -> bool {
        if sighting.blind {
            return false;
        }
        let sight = sighting.sight;
        self.brake_events.extend(self.brake.judge(sight, self.witness));
        for id in self.over.split_off(self.over.len().saturating_sub(most)) {
            let Some(lease) = self.leases.by_id_mut(id) else {
                continue;
            };
            let ttl = lease.ttl().duration();
            let from = lease.pulse().counted_from(sighting);
            if from.plus(ttl) > sight {
                // It has beaten while the others were looked at.
                lease.queue(lease.next_turn(from), &mut self.deadlines);
            } else if lease.life == Life::Silent && self.brake.holds() && !seeded(Bug::BrakeOff) {
                lease.pulse().hold(from.plus(ttl));
                let held = Brake::held_from(from.plus(ttl), lease.ttl());
                self.brake.becomes(id, &mut lease.life, held);
            } else {
                self.end(id, sight);
            }
        }
        self.brake.measure();
        let (going, event) = self.brake.let_go(sight);
        self.brake_events.extend(event);
        for id in going {
            self.end(id, sight);
        }
        self.brake_events.extend(self.brake.finish());
        !self.over.is_empty()
    }

    fn end(&mut self, id: EntryId, sight: Moment) {
        if seeded(Bug::ExpiryOff) {
            return;
        }
        if let Some(lease) = self.leases.by_id_mut(id) {
            lease.pulse().end(sight);
            if lease.life != Life::New {
                self.brake.becomes(id, &mut lease.life, Life::Ended);
            }
            self.ended.push(id);
        }
    }

    /// This node was blind: every lease gets a full TTL, the held ones too, and nobody counts as silent. Counts one
    /// part of the table, and returns whether it was there.
    fn count_anew(&mut self, sighting: &Sighting, part: usize) -> bool {
        let Some(leases) = self.leases.chunk_mut(part) else { return false };
        for lease in leases {
            if !matches!(lease.life, Life::New | Life::Beating) {
                let held = matches!(lease.life, Life::Held { .. });
                self.brake.becomes(lease.id, &mut lease.life, Life::Beating);
                if held || lease.queued.is_some() {
                    lease.queue(lease.next_turn(lease.pulse().counted_from(sighting)), &mut self.deadlines);
                }
            }
        }
        true
    }

    /// The leases that have ended since the last call; their beat counts are to be noted.
    pub fn newly_ended(&mut self, sighting: &Sighting) -> Vec<EntryId> {
        if sighting.blind {
            return Vec::new();
        }
        while self.sift(sighting, usize::MAX) {}
        while self.judge(sighting, usize::MAX) {}
        let mut ended = std::mem::take(&mut self.ended);
        ended.retain(|id| {
            let Some(lease) = self.leases.by_id_mut(*id) else {
                return false;
            };
            let ended = lease.ended(sighting);
            if ended {
                self.ending.insert(*id, Ending::Asked);
            } else {
                lease.queue(lease.next_turn(lease.pulse().counted_from(sighting)), &mut self.deadlines);
            }
            ended
        });
        ended
    }

    /// The beat count of an ended lease, and when to remove it if it stays silent. `None`: it could not be read.
    pub fn noted(&mut self, id: EntryId, beat: Option<(i64, Moment)>, sighting: &Sighting) {
        match beat {
            Some((beat, due)) if matches!(self.ending.get(&id), Some(Ending::Asked)) => {
                self.ending.insert(id, Ending::Noted { beat, due });
            }
            _ => self.not_removed(id, sighting),
        }
    }

    /// The removal did not come about: the lease is looked at again.
    pub fn not_removed(&mut self, id: EntryId, sighting: &Sighting) {
        self.ending.remove(&id);
        if let Some(lease) = self.leases.by_id_mut(id) {
            let retry = sighting.now.plus(RETRY);
            if lease.queued.is_none_or(|queued| retry < queued) {
                lease.queue(retry, &mut self.deadlines);
            }
        }
    }

    /// The ended leases whose removal is due, without those that have beaten since, by number.
    pub fn due(&mut self, sighting: &Sighting) -> Vec<Ended> {
        if sighting.blind {
            return Vec::new();
        }
        let mut candidates: Vec<_> = self
            .ending
            .iter()
            .filter_map(|(id, ending)| match ending {
                Ending::Noted { beat, due } if *due <= sighting.now => Some((*id, *beat)),
                _ => None,
            })
            .collect();
        candidates.sort_unstable();
        let mut due = Vec::with_capacity(candidates.len());
        for (id, noted_beat) in candidates {
            let Some(lease) = self.leases.by_id(id) else {
                self.ending.remove(&id);
                continue;
            };
            if lease.ended(sighting) {
                let (last_seen, held_for) =
                    (lease.pulse().last_seen(), lease.pulse().held_for(sighting, lease.ttl().duration()));
                due.push(Ended { id, key: lease.entry.record.key(), noted_beat, last_seen, held_for });
                self.ending.insert(id, Ending::Submitted);
            } else {
                self.not_removed(id, sighting);
            }
        }
        due
    }

    /// How many instances are alive, silent and held.
    pub const fn census(&self) -> Census {
        self.brake.census()
    }

    /// Whether too many are silent for any of them to end.
    pub const fn brake_is_on(&self) -> bool {
        self.brake.holds()
    }

    /// What the brake did since the last call.
    pub fn take_brake_events(&mut self) -> Vec<BrakeEvent> {
        std::mem::take(&mut self.brake_events)
    }

    /// A row that the change log is to have, and the key to write it at.
    pub fn brake_notice(&mut self) -> Option<(Key, Notice)> {
        let notice = self.brake.notice()?;
        // The one that it was to be written at may be gone by now.
        let at = [Some(notice.at), self.brake.any_held()];
        let key =
            at.into_iter().flatten().find_map(|id| self.by_id(id)).map(|lease| lease.entry.record.key());
        if key.is_none() {
            self.brake.not_told(notice.hold);
        }
        Some((key?, notice))
    }

    /// The row could not be written: it is asked for again.
    pub fn brake_not_told(&mut self, hold: bool) {
        self.brake.not_told(hold);
    }

    /// A row of the change log says that a node's brake is on (`hold`), or that it lets held entries go.
    pub fn brake_heard(&mut self, hold: bool, at: EntryId, now: Moment) {
        let event = self.brake.heard(hold, now, at);
        self.brake_events.extend(event);
    }

    /// A row of the change log says that this entry's lease ended, on whichever node: held ones among them are counted
    /// by all.
    pub fn expired(&mut self, id: EntryId, now: Moment) {
        if let Some(life) = self.by_id(id).map(|lease| lease.life) {
            self.brake.removed_elsewhere(life, now);
        }
    }
}

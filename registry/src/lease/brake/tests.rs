//! Whole cores, one for each node, with the log between them; time is a number.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    clock::{Sight, Sighting},
    entry::{Key, Record},
    lease::Core,
};

const TICK: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Moment {
    Moment::from_start(Duration::from_secs(1000 + seconds))
}

fn record(id: EntryId, ttl: u64) -> Record {
    Record {
        ttl_seconds: Ttl::try_from(ttl).unwrap(),
        ..Record::new(
            Key { service: "orders".parse().unwrap(), instance: format!("i{id}").parse().unwrap() },
            "http://h:1".parse().unwrap(),
        )
    }
}

fn key(id: EntryId) -> Key {
    record(id, 90).key()
}

/// A node: its core, its sight, and what it was about to remove, by the tick at which the row is written.
struct Node {
    core: Core,
    sight: Sight,
    removals: BTreeMap<u64, Vec<EntryId>>,
}

/// Nodes and the log that they share. A row that one writes in a tick is read by the others in the next.
struct Fleet {
    nodes: Vec<Node>,
    now: u64,
    ttls: BTreeMap<EntryId, u64>,
    rows: Vec<(usize, Row)>,
    holds: usize,
    releases: usize,
    /// When each entry's removal was written.
    gone: BTreeMap<EntryId, u64>,
}

#[derive(Clone, Copy)]
enum Row {
    Brake { hold: bool, at: EntryId },
    Expire(EntryId),
}

impl Fleet {
    /// So many nodes that know entries 1..=count, all of which have beaten at 0.
    fn new(nodes: usize, count: EntryId) -> Self {
        Self::of(nodes, (1..=count).map(|id| (id, 90)).collect())
    }

    fn of(nodes: usize, ttls: BTreeMap<EntryId, u64>) -> Self {
        let node = |_| {
            let mut core = Core::new(TICK * 3);
            for (id, ttl) in &ttls {
                core.put(*id, 1, (&record(*id, *ttl)).into(), None, at(0), true);
                core.heartbeat(at(0), &key(*id), None, None);
            }
            let sight = Sight::ticking(TICK);
            sight.advance(at(0), at(0));
            Node { core, sight, removals: BTreeMap::new() }
        };
        Self {
            nodes: (0..nodes).map(node).collect(),
            now: 0,
            ttls,
            rows: Vec::new(),
            holds: 0,
            releases: 0,
            gone: BTreeMap::new(),
        }
    }

    fn sighting(&self, node: usize) -> Sighting {
        self.nodes[node].sight.at(at(self.now))
    }

    /// One second, in which these beat at some node and every node but `blind` sees.
    fn tick(&mut self, beating: &[EntryId], blind: Option<usize>) {
        self.now += 1;
        let now = at(self.now);
        let rows = std::mem::take(&mut self.rows);
        let beating: Vec<EntryId> =
            beating.iter().copied().filter(|id| !self.gone.contains_key(id)).collect();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if blind == Some(number) {
                self.rows.extend(rows.iter().filter(|(writer, _)| *writer != number));
                continue;
            }
            node.core.heard_elsewhere(&beating, now);
            for (writer, row) in rows.iter().filter(|(writer, _)| *writer != number) {
                assert_ne!(*writer, number);
                match *row {
                    Row::Brake { hold, at } => node.core.brake_heard(hold, at, now),
                    Row::Expire(id) => {
                        node.core.expired(id, now);
                        node.core.remove(id);
                    }
                }
            }
            node.sight.advance(now, now);
            let sighting = node.sight.at(now);
            while node.core.sift(&sighting, 7) {}
            while node.core.judge(&sighting, 7) {}
            let due = self.now + 3 + u64::try_from(number).unwrap() % 2;
            node.removals.entry(due).or_default().extend(node.core.newly_ended(&sighting));
            for id in node.removals.remove(&self.now).unwrap_or_default() {
                if self.gone.contains_key(&id) {
                    continue;
                }
                self.gone.insert(id, self.now);
                self.rows.push((number, Row::Expire(id)));
                node.core.expired(id, now);
                node.core.remove(id);
            }
            if let Some((_, notice)) = node.core.brake_notice() {
                *(if notice.hold { &mut self.holds } else { &mut self.releases }) += 1;
                node.core.brake_heard(notice.hold, notice.at, now);
                self.rows.push((number, Row::Brake { hold: notice.hold, at: notice.at }));
            }
        }
    }

    /// Ticks until `seconds`; these beat every 20 s.
    fn until(&mut self, seconds: u64, beating: &[EntryId]) {
        while self.now < seconds {
            let now = self.now + 1;
            self.tick(if now.is_multiple_of(20) { beating } else { &[] }, None);
        }
    }

    /// What a node's readers do not see any more.
    fn hidden(&self, node: usize) -> BTreeSet<EntryId> {
        let core = &self.nodes[node].core;
        let sighting = self.sighting(node);
        let there = |id: &EntryId| core.lease(&key(*id)).is_some() && !core.lease_ended(&key(*id), &sighting);
        self.ttls.keys().copied().filter(|id| !there(id)).collect()
    }

    fn census(&self, node: usize) -> (usize, usize, usize) {
        let Census { all, silent, held } = self.nodes[node].core.census();
        (all, silent, held)
    }
}

fn ids(range: std::ops::RangeInclusive<EntryId>) -> Vec<EntryId> {
    range.collect()
}

#[test]
fn thresholds() {
    let too_many = |silent, all| Census { all, silent, held: 0 }.too_many_silent();
    for (silent, all, expected) in [
        (10, 19, true),
        (10, 20, false),
        (10, 29, false),
        (11, 22, true),
        (11, 32, true),
        (11, 33, false),
        (12, 35, true),
        (12, 36, false),
        (2, 2, false),
        (2, 3, false),
        (3, 3, true),
        (3, 4, true),
        (3, 5, true),
        (3, 6, false),
        (4, 7, true),
        (4, 8, false),
        (0, 0, false),
        (333_333, 1_000_000, false),
        (333_334, 1_000_000, true),
    ] {
        assert_eq!(too_many(silent, all), expected, "{silent} of {all}");
    }
}

#[test]
fn few_that_fall_silent_end_as_ever() {
    // 11 of 33 are a third, not more.
    let mut fleet = Fleet::new(1, 33);
    fleet.until(89, &ids(12..=33));
    assert_eq!((fleet.census(0), fleet.hidden(0).len()), ((33, 11, 0), 0));
    fleet.until(90, &ids(12..=33));
    assert_eq!(fleet.hidden(0), (1..=11).collect());
    fleet.until(100, &ids(12..=33));
    assert_eq!((fleet.census(0), fleet.gone.len(), fleet.holds), ((22, 0, 0), 11, 0));
}

#[test]
fn one_more_and_all_of_them_are_held_for_two_ttls() {
    let mut fleet = Fleet::new(1, 32);
    let alive = ids(12..=32);
    fleet.until(59, &alive);
    assert_eq!((fleet.census(0), fleet.holds), ((32, 0, 0), 0), "silent after two thirds of a TTL");
    fleet.until(60, &alive);
    assert_eq!((fleet.census(0), fleet.holds), ((32, 11, 0), 1), "on, long before the first lease ends");
    fleet.until(90, &alive);
    assert_eq!(fleet.census(0), (32, 11, 11));
    fleet.until(269, &alive);
    assert_eq!((fleet.hidden(0).len(), fleet.releases), (0, 0));
    // 11 held: 10 go in a TTL, one every 9 s, the first at once.
    fleet.until(270, &alive);
    assert_eq!((fleet.hidden(0).len(), fleet.releases), (1, 1));
    fleet.until(278, &alive);
    assert_eq!(fleet.hidden(0).len(), 1);
    fleet.until(279, &alive);
    assert_eq!(fleet.hidden(0).len(), 2);
    fleet.until(360, &alive);
    assert_eq!(fleet.hidden(0), (1..=11).collect());
    fleet.until(370, &alive);
    assert_eq!((fleet.census(0), fleet.gone.len()), ((21, 0, 0), 11));
    assert_eq!((fleet.holds, fleet.releases), (1, 1), "a row each, whatever their number");
    let events = fleet.nodes[0].core.take_brake_events();
    assert!(
        matches!(
            events[..],
            [
                BrakeEvent::On(Census { all: 32, silent: 11, held: 0 }),
                BrakeEvent::LettingGo { held: 11, per_ttl: 10 },
                BrakeEvent::Over { held: 11, let_go: 11 },
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn two_of_two_are_not_held_and_three_of_four_are() {
    let mut fleet = Fleet::new(1, 2);
    fleet.until(90, &[]);
    assert_eq!(fleet.hidden(0).len(), 2);
    let mut fleet = Fleet::new(1, 4);
    fleet.until(269, &[4]);
    assert_eq!((fleet.census(0), fleet.hidden(0).len()), ((4, 3, 3), 0));
}

#[test]
fn who_beats_while_held_is_alive_and_was_never_missing() {
    let mut fleet = Fleet::new(3, 100);
    fleet.until(250, &ids(51..=100));
    for node in 0..3 {
        assert_eq!((fleet.census(node), fleet.hidden(node).len()), ((100, 50, 50), 0));
    }
    // Most of them come back, which takes the brake off; the others are held to the end of their two TTLs.
    fleet.tick(&ids(1..=45), None);
    fleet.until(269, &ids(1..=45).into_iter().chain(51..=100).collect::<Vec<_>>());
    for node in 0..3 {
        assert_eq!((fleet.census(node), fleet.hidden(node).len()), ((100, 5, 5), 0));
        assert!(!fleet.nodes[node].core.brake_is_on());
    }
    fleet.until(330, &ids(1..=45).into_iter().chain(51..=100).collect::<Vec<_>>());
    for node in 0..3 {
        assert_eq!((fleet.census(node), fleet.hidden(node)), ((95, 0, 0), (46..=50).collect()));
    }
    assert!((1..=3).contains(&fleet.holds), "each node tells it once at most: {}", fleet.holds);
}

#[test]
fn three_nodes_together_let_go_at_the_rate_of_one() {
    let mut fleet = Fleet::new(3, 400);
    let alive = ids(201..=400);
    fleet.until(269, &alive);
    assert_eq!((0..3).map(|node| fleet.hidden(node).len()).sum::<usize>(), 0);
    let mut windows = Vec::new();
    for window in 1..=7 {
        let before = fleet.gone.len();
        fleet.until(273 + window * 90, &alive);
        windows.push(fleet.gone.len() - before);
    }
    // 15 % of 200 are 30 in each TTL.
    assert!(windows[..6].iter().all(|count| (29..=31).contains(count)), "{windows:?}");
    assert_eq!(windows.iter().sum::<usize>(), 200, "{windows:?}");
    let order: Vec<EntryId> = {
        let mut gone: Vec<_> = fleet.gone.iter().map(|(id, at)| (*at, *id)).collect();
        gone.sort_unstable();
        gone.into_iter().map(|(_, id)| id).collect()
    };
    let ups = order.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((70..130).contains(&ups), "in random order: {ups} of 199 steps go up");
}

#[test]
fn nodes_whose_holds_end_at_different_times_keep_the_rate_too() {
    let mut fleet = Fleet::new(3, 400);
    let alive = ids(201..=400);
    fleet.until(200, &alive);
    // Node 2 is blind for 10 s, so that it counts everything anew.
    for _ in 0..10 {
        let now = fleet.now + 1;
        fleet.tick(if now.is_multiple_of(20) { &alive } else { &[] }, Some(2));
    }
    fleet.tick(&alive, None);
    assert_eq!(fleet.census(2), (400, 0, 0), "every lease has a full TTL again");
    fleet.until(301, &alive);
    assert_eq!(
        (fleet.census(2).2, fleet.hidden(2)),
        (200 - fleet.hidden(2).len(), fleet.gone.keys().copied().collect())
    );
    let mut windows = Vec::new();
    let mut next = 273;
    while fleet.gone.len() < 200 {
        let before = fleet.gone.len();
        next += 90;
        fleet.until(next, &alive);
        windows.push(fleet.gone.len() - before);
        assert!(windows.len() < 9, "{windows:?}");
    }
    assert!(windows[1..windows.len() - 1].iter().all(|count| (28..=32).contains(count)), "{windows:?}");
}

#[test]
fn what_another_node_lets_go_is_counted() {
    let mut fleet = Fleet::of(2, (1..=60).map(|id| (id, 180)).collect());
    let alive = ids(31..=60);
    fleet.until(95, &alive);
    for _ in 0..4 {
        fleet.tick(&[], Some(1));
    }
    // Node 1 counts anew from 100, so that its holds end at 640, in the middle between two that node 0 lets go, which
    // does so every 18 s from 540 on. A row is written some 4 s after that: nothing but the count keeps them from
    // taking turns at twice the rate.
    fleet.until(639, &alive);
    assert_eq!(fleet.nodes[1].core.census().held + fleet.gone.len(), 30);
    let before = fleet.gone.len();
    assert_eq!(before, 6, "one every 18 s since 540");
    fleet.until(639 + 180, &alive);
    let together = fleet.gone.len() - before;
    assert!((9..=11).contains(&together), "10 in a TTL, not {together}");
    fleet.until(639 + 360, &alive);
    assert_eq!(fleet.gone.len(), 26);
}

#[test]
fn a_blind_node_lets_nobody_go_and_begins_again_when_it_sees() {
    let mut fleet = Fleet::new(1, 40);
    fleet.until(265, &ids(21..=40));
    assert_eq!(fleet.census(0), (40, 20, 20));
    for _ in 0..100 {
        fleet.tick(&[], Some(0));
        assert!(fleet.now < 270 || fleet.sighting(0).blind);
        assert_eq!(fleet.hidden(0).len(), 0);
    }
    // It sees again at 366: a full TTL for all, then two TTLs of hold, unless they beat.
    fleet.tick(&ids(21..=40), None);
    assert_eq!(fleet.census(0), (40, 0, 0));
    fleet.until(366 + 269, &ids(21..=40));
    assert_eq!((fleet.census(0), fleet.hidden(0).len()), ((40, 20, 20), 0));
    fleet.until(366 + 270, &ids(21..=40));
    assert_eq!(fleet.hidden(0).len(), 1);
}

#[test]
fn different_ttls_are_silent_and_held_in_their_own_time() {
    // 30 of 30 s, 30 of 90 s: all of the first and none of the second die, half of all but for one.
    let ttls = (1..=60).map(|id| (id, if id <= 30 { 30 } else { 90 })).collect();
    let mut fleet = Fleet::of(1, ttls);
    let alive = ids(30..=60);
    fleet.until(20, &alive);
    assert_eq!(fleet.census(0), (60, 29, 0));
    fleet.until(89, &alive);
    assert_eq!((fleet.census(0), fleet.hidden(0).len()), ((60, 29, 29), 0));
    fleet.until(90, &alive);
    assert_eq!(fleet.hidden(0).len(), 1);
    // At least 10 in 30 s: one every 3 s.
    fleet.until(117, &alive);
    assert_eq!(fleet.hidden(0).len(), 10);
    // Of two TTLs, half of the held with each: the pace is that of their harmonic mean, 45 s.
    let ttls: BTreeMap<EntryId, u64> = (1..=600).map(|id| (id, if id % 2 == 0 { 30 } else { 90 })).collect();
    let mut fleet = Fleet::of(1, ttls);
    fleet.until(91, &[]);
    assert_eq!(fleet.census(0).2, 600 - fleet.hidden(0).len());
    let before = fleet.hidden(0).len();
    fleet.until(91 + 45, &[]);
    assert_eq!(fleet.hidden(0).len() - before, 90, "15 % of 600");
}

#[test]
fn a_removal_that_did_not_come_about_ends_no_hold() {
    let mut core = Core::new(TICK * 3);
    let sight = Sight::ticking(TICK);
    let see = |core: &mut Core, seconds: u64| {
        sight.advance(at(seconds), at(seconds));
        let sighting = sight.at(at(seconds));
        while core.sift(&sighting, 7) {}
        while core.judge(&sighting, 7) {}
        sighting
    };
    for id in ids(1..=21) {
        core.put(id, 1, (&record(id, 90)).into(), None, at(0), true);
        core.heartbeat(at(0), &key(id), None, None);
    }
    for now in 0..=90 {
        if now == 31 {
            core.heard_elsewhere(&ids(2..=21), at(31));
        }
        see(&mut core, now);
    }
    // One ends as ever, and is to be removed at 93.
    let sighting = sight.at(at(90));
    assert_eq!(core.newly_ended(&sighting), [1]);
    core.noted(1, Some((2, at(93))), &sighting);
    // Meanwhile too many are silent, and word comes of a beat of it that had waited for the store.
    core.heard_elsewhere(&[1], at(2));
    see(&mut core, 91);
    assert!(core.brake_is_on());
    see(&mut core, 92);
    assert_eq!(core.census().held, 1);
    let sighting = see(&mut core, 93);
    assert_eq!(core.due(&sighting), []);
    for now in 94..=100 {
        let sighting = see(&mut core, now);
        assert!(!core.lease_ended(&key(1), &sighting), "its hold lasts until 272, and it is {now}");
    }
}

#[test]
fn who_never_beat_is_neither_counted_nor_held() {
    let mut fleet = Fleet::new(1, 3);
    for id in 10..100 {
        fleet.nodes[0].core.put(id, 1, (&record(id, 90)).into(), None, at(0), true);
        fleet.ttls.insert(id, 90);
    }
    assert_eq!(fleet.census(0).0, 3);
    fleet.until(90, &[]);
    assert_eq!(fleet.census(0), (3, 3, 3));
    assert_eq!(fleet.hidden(0), (10..100).collect());
    // A registration that renews is a beat.
    let mut fleet = Fleet::new(1, 0);
    for id in 1..=3 {
        fleet.nodes[0].core.put(id, 1, (&record(id, 90)).into(), None, at(0), true);
        fleet.nodes[0].core.put(id, 1, (&record(id, 90)).into(), None, at(1), true);
    }
    assert_eq!(fleet.census(0).0, 3);
}

#[test]
fn the_deregistered_and_the_removed_do_not_count() {
    let mut fleet = Fleet::new(1, 20);
    fleet.until(70, &ids(10..=20));
    assert_eq!(fleet.census(0), (20, 9, 0));
    for id in 1..=3 {
        fleet.nodes[0].core.remove(id);
    }
    assert_eq!(fleet.census(0), (17, 6, 0));
    let mut fleet = Fleet::new(1, 20);
    fleet.until(100, &[]);
    for id in 1..=20 {
        fleet.nodes[0].core.remove(id);
    }
    assert_eq!(fleet.census(0), (0, 0, 0));
    let brake = &fleet.nodes[0].core.brake;
    assert!(brake.holding.is_empty() && brake.ripe.is_empty() && brake.turns == 0);
    fleet.until(110, &[]);
    assert!(fleet.nodes[0].core.brake.episode.is_none());
}

#[test]
fn a_row_of_another_node_puts_the_brake_on_for_a_while() {
    let mut fleet = Fleet::new(1, 30);
    let alive = ids(11..=30);
    fleet.until(89, &alive);
    assert_eq!(fleet.census(0), (30, 10, 0), "a third, not more");
    fleet.nodes[0].core.brake_heard(true, 1, at(89));
    fleet.until(90, &alive);
    assert_eq!((fleet.census(0), fleet.hidden(0).len()), ((30, 10, 10), 0));
    assert_eq!(fleet.holds, 0, "what stands in the log is not written again");
    fleet.until(93, &alive);
    assert!(!fleet.nodes[0].core.brake_is_on(), "three ticks on it goes by what it sees itself");
}

#[test]
fn a_row_that_could_not_be_written_is_written_later_and_one_whose_entry_is_gone_elsewhere() {
    let mut core = Core::new(TICK);
    let sight = Sight::ticking(TICK);
    for id in 1..=3 {
        core.put(id, 1, (&record(id, 90)).into(), None, at(0), true);
        core.heartbeat(at(0), &key(id), None, None);
    }
    for now in 0..=90 {
        sight.advance(at(now), at(now));
        core.newly_ended(&sight.at(at(now)));
    }
    let (_, first) = core.brake_notice().unwrap();
    assert!(first.hold && first.reason.starts_with("3 of 3 instances"), "{first:?}");
    assert_eq!(core.brake_notice(), None, "it is on its way");
    core.brake_not_told(true);
    core.remove(first.at);
    let (_, again) = core.brake_notice().unwrap();
    assert!(again.hold);
    core.brake_heard(true, again.at, at(90));
    core.brake_not_told(true);
    assert_eq!(core.brake_notice(), None, "it is there");
}

/// Counts everything again, from the leases themselves.
fn check(core: &Core, sighting: &Sighting) {
    let mut expected = Census::default();
    let (mut turned, mut waiting) = (0, 0);
    for lease in core.leases.iter() {
        let (all, silent, held) = match lease.life {
            Life::New | Life::Ended => (0, 0, 0),
            Life::Beating => (1, 0, 0),
            Life::Silent => (1, 1, 0),
            Life::Held { until, ttl } => {
                turned += turns(ttl);
                waiting += 1;
                let places = [
                    core.brake.holding.contains(&(until, lease.id)),
                    core.brake.ripe.contains(&(shuffled(lease.id), lease.id)),
                ];
                assert_eq!(places.into_iter().filter(|place| *place).count(), 1, "{lease:?}");
                assert!(!lease.ended(sighting), "{lease:?}");
                (1, 1, 1)
            }
        };
        expected.all += all;
        expected.silent += silent;
        expected.held += held;
        let elsewhere = matches!(lease.life, Life::Held { .. })
            || core.ending.contains_key(&lease.id)
            || core.ended.contains(&lease.id);
        match lease.queued {
            Some(_) => {}
            None => assert!(elsewhere, "nobody will look at {lease:?}"),
        }
        if !sighting.blind && !lease.ended(sighting) && !elsewhere {
            let over = lease.pulse().counted_from(sighting).plus(lease.ttl().duration());
            // One that beat while it was ending is looked at when its removal would have been due.
            assert!(over.plus(TICK * 5) > sighting.sight, "it should have ended: {lease:?}");
        }
    }
    assert_eq!(core.census(), expected);
    assert_eq!((core.brake.turns, core.brake.holding.len() + core.brake.ripe.len()), (turned, waiting));
    assert!(core.brake.holds() || !expected.too_many_silent());
}

#[test]
fn nobody_is_counted_twice_or_forgotten_whatever_happens() {
    let mut held_in_all = 0;
    for seed in 0..25 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut core = Core::new(TICK * 3);
        let sight = Sight::ticking(TICK);
        let mut next_id = 0;
        let mut beating_until = 0;
        let (mut held_most, mut ended) = (0, 0);
        for now in 0..1500 {
            let seen = at(now);
            if rng.random_bool(0.01) {
                beating_until = now + rng.random_range(0..300);
            }
            for _ in 0..rng.random_range(0..4) {
                let name = rng.random_range(1..40);
                let record = record(name, [3, 30, 90][rng.random_range(0..3)]);
                let known = core.lease(&record.key()).map(|(id, ..)| id);
                match rng.random_range(0..12) {
                    // Another entry in the place of the one before it, or a new one.
                    0 => {
                        next_id += 1;
                        core.put(next_id, 1, (&record).into(), None, seen, true);
                    }
                    1 => known.into_iter().for_each(|id| core.remove(id)),
                    2 => known
                        .into_iter()
                        .for_each(|id| drop(core.put(id, 1, (&record).into(), None, seen, false))),
                    3 => known.into_iter().for_each(|id| {
                        core.loaded(id, seen.minus(TICK * rng.random_range(0..200)), rng.random_bool(0.5));
                    }),
                    _ if now >= beating_until => {}
                    _ if known.is_none() => {
                        next_id += 1;
                        core.put(next_id, 1, (&record).into(), None, seen, true);
                    }
                    4..8 => drop(core.heartbeat(seen, &record.key(), None, None)),
                    _ => known.into_iter().for_each(|id| core.heard_elsewhere(&[id], seen)),
                }
            }
            let blind = rng.random_bool(0.003);
            sight.advance(seen, if blind { seen.plus(TICK * 9) } else { seen });
            let sighting = Sighting { now: seen, ..sight.at(seen) };
            while core.sift(&sighting, 3) {}
            while core.judge(&sighting, 3) {}
            check(&core, &sighting);
            for id in core.newly_ended(&sighting) {
                ended += 1;
                let beat = rng.random_bool(0.8).then(|| (1, seen.plus(TICK * 3)));
                core.noted(id, beat, &sighting);
            }
            for due in core.due(&sighting) {
                if rng.random_bool(0.7) {
                    core.remove(due.id);
                } else {
                    core.not_removed(due.id, &sighting);
                }
            }
            check(&core, &sighting);
            held_most = held_most.max(core.census().held);
        }
        held_in_all += held_most;
        assert!(ended > 10, "seed {seed}: {ended} ended");
        // Left alone, everything comes to its end by itself.
        for now in 1500..1500 + 3000 {
            sight.advance(at(now), at(now));
            let sighting = sight.at(at(now));
            for id in core.newly_ended(&sighting) {
                core.remove(id);
            }
            for due in core.due(&sighting) {
                core.remove(due.id);
            }
        }
        assert!(core.is_empty(), "seed {seed}: {} are left", core.len());
        assert!(core.brake.episode.is_none());
    }
    assert!(held_in_all > 100, "the brake had something to do: {held_in_all}");
}

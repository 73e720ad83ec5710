//! What the faults of a scenario excuse, and when a node may have counted all leases anew.

use super::Bounds;
use crate::history::{At, Fault, FaultKind, History, Operation};

/// The faults of a run, and the signs of trouble that no scenario caused.
pub(super) struct Faults {
    planned: Vec<Fault>,
    /// For each registry URL: its node.
    nodes: Vec<Option<u8>>,
    /// For each registry URL: when calls ended that it did not answer, or with 503. In order.
    troubles: Vec<Vec<At>>,
    bounds: Bounds,
}

impl Faults {
    pub(super) fn new(history: &History, bounds: &Bounds) -> Self {
        let targets = &history.header.targets;
        let mut troubles = vec![Vec::new(); targets.len()];
        for operation in &history.operations {
            if matches!(operation.status, 0 | 502..=504)
                && let Some(troubles) = troubles.get_mut(usize::from(operation.target))
            {
                troubles.push(operation.end);
            }
        }
        for troubles in &mut troubles {
            troubles.sort_unstable();
        }
        Self {
            planned: history.faults.clone(),
            nodes: targets.iter().map(|target| target.node).collect(),
            troubles,
            bounds: *bounds,
        }
    }

    fn node(&self, target: u8) -> Option<u8> {
        self.nodes.get(usize::from(target)).copied().flatten()
    }

    /// Whether a fault of this kind is one of what answers at a URL.
    fn concerns(&self, kind: FaultKind, target: u8) -> bool {
        match kind {
            FaultKind::Node(node) => self.node(target).is_none_or(|own| own == node),
            FaultKind::Store | FaultKind::StoreLost => true,
        }
    }

    /// Whether a beat that was acknowledged may be lost all the same: its node was killed or cut off within the bound
    /// of beats, or was cut off already and did not know it yet.
    pub(super) fn may_lose(&self, beat: &Operation) -> bool {
        self.planned.iter().any(|fault| {
            let until = match (fault.held, fault.over) {
                (Some(held), _) => held.plus(self.bounds.beat),
                (None, Some(over)) => over,
                (None, None) => At::NEVER,
            };
            matches!(fault.kind, FaultKind::Node(_))
                && self.concerns(fault.kind, beat.target)
                && beat.end >= fault.began.minus(self.bounds.beat)
                && beat.start <= until
        })
    }

    /// The end of a lease that would end at `until` if every node saw all the time: the time in which none sees is
    /// left out, and afterwards each lease has a full TTL.
    pub(super) fn extend(&self, until: At) -> At {
        let mut until = until;
        for fault in &self.planned {
            if matches!(fault.kind, FaultKind::Store | FaultKind::StoreLost)
                && let Some(held) = fault.held
                && held <= until
            {
                until = until.max(fault.lifting.unwrap_or(At::NEVER).plus(self.bounds.ttl));
            }
        }
        until
    }

    /// Whether the store had lost data in that time.
    pub(super) fn left_out(&self, start: At, end: At) -> bool {
        self.planned.iter().any(|fault| {
            fault.kind == FaultKind::StoreLost && fault.began <= end && self.over(fault) >= start
        })
    }

    /// By when a fault and what follows from it is over.
    fn over(&self, fault: &Fault) -> At {
        let lifting = || fault.lifting.map_or(At::NEVER, |lifting| lifting.plus(self.bounds.settle));
        fault.over.unwrap_or_else(lifting)
    }

    /// The last moment, not after `at`, at which the node behind a URL may have begun to count all leases anew.
    pub(super) fn resync(&self, target: u8, at: At) -> At {
        let faults = self.planned.iter().filter(|fault| self.concerns(fault.kind, target));
        let planned = faults.filter(|fault| fault.began <= at).map(|fault| self.over(fault)).max();
        let node = self.node(target);
        let same = self.nodes.iter().zip(&self.troubles).filter(|(own, _)| node.is_none() || **own == node);
        let last = |troubles: &Vec<At>| {
            troubles
                .partition_point(|end| *end <= at)
                .checked_sub(1)
                .and_then(|place| troubles.get(place).copied())
        };
        let signs = same.filter_map(|(_, troubles)| last(troubles)).max();
        let signs = signs.map(|end| end.plus(self.bounds.settle));
        planned.max(signs).unwrap_or_default().min(at)
    }
}

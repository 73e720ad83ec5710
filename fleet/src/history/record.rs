use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Answer, At, Fault, FaultKind, Header, History, Operation, What};
use crate::clock::Clock;

/// Names a fault that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultId(usize);

/// Takes down a history while it happens.
#[derive(Debug)]
pub struct Recorder {
    clock: Clock,
    header: Header,
    limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    operations: Vec<Operation>,
    faults: Vec<Fault>,
    bytes: usize,
    full: Option<At>,
    unsent: usize,
    sealed: bool,
}

impl Recorder {
    pub(crate) fn new(clock: Clock, header: Header, limit: usize) -> Self {
        Self { clock, header, limit, taken: Mutex::default() }
    }

    /// Now, as operations and faults count it.
    pub fn now(&self) -> At {
        self.clock.at()
    }

    /// A fault is about to be applied.
    pub fn fault(&self, kind: FaultKind) -> FaultId {
        let began = self.now();
        let mut taken = self.taken();
        taken.faults.push(Fault { kind, began, held: None, lifting: None, over: None });
        FaultId(taken.faults.len() - 1)
    }

    /// The fault holds from here on for sure: the process is stopped, the connections are cut.
    pub fn held(&self, fault: FaultId) {
        self.note(fault, |fault, now| fault.held = Some(now));
    }

    /// The fault is about to be lifted.
    pub fn lifting(&self, fault: FaultId) {
        self.note(fault, |fault, now| fault.lifting = Some(now));
    }

    /// The fault is lifted and every node is seen to be ready again.
    pub fn over(&self, fault: FaultId) {
        self.note(fault, |fault, now| fault.over = Some(now));
    }

    fn note(&self, fault: FaultId, note: impl FnOnce(&mut Fault, At)) {
        let now = self.now();
        if let Some(fault) = self.taken().faults.get_mut(fault.0) {
            note(fault, now);
        }
    }

    /// Takes down an operation that has ended; without effect once the history is full or sealed.
    pub(crate) fn add(&self, operation: Operation) {
        let mut taken = self.taken();
        if taken.sealed || taken.full.is_some() {
            return;
        }
        let list = match &operation.what {
            What::Read(read) => match &read.answer {
                Answer::List(list) => size_of_val::<[_]>(list),
                Answer::NotThere | Answer::Nothing => 0,
            },
            What::Write(_) => 0,
        };
        taken.bytes += size_of::<Operation>() + list;
        if taken.bytes > self.limit {
            taken.full = Some(operation.end);
        } else {
            taken.operations.push(operation);
        }
    }

    /// A call was given up before it was sent, because too many others were under way.
    pub(crate) fn unsent(&self) {
        let mut taken = self.taken();
        if !taken.sealed {
            taken.unsent += 1;
        }
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.taken().operations.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was taken down up to now; nothing is added any more.
    pub(crate) fn seal(&self) -> History {
        let mut taken = self.taken();
        taken.sealed = true;
        History {
            header: self.header.clone(),
            operations: std::mem::take(&mut taken.operations),
            faults: std::mem::take(&mut taken.faults),
            full: taken.full,
            unsent: taken.unsent,
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

use std::collections::{HashMap, VecDeque};

use registry_wire::Session;

use crate::{
    clock::Moment,
    entry::{ENDED_SESSION_MEMORY, Key, Packed},
};

/// Ended sessions kept for one key, here and in both stores' SQL; older ones are forgotten first.
pub(super) const ENDED_SESSIONS_MAX: usize = 64;

/// Keys without a lease whose ended sessions are kept; the oldest are forgotten first.
const PAST_MAX: usize = 10_000;

/// Sessions of one key that have ended, each with the moment at which this node heard of it, in that order.
///
/// Few keys have any, so that none costs a word alone.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "a word where a list takes four")]
pub(super) struct EndedSessions(Option<Box<VecDeque<(Session, Moment)>>>);

impl EndedSessions {
    /// A session ends at `now`: it is remembered for [`ENDED_SESSION_MEMORY`] from then on, also if it ended before,
    /// was forgotten and came again.
    pub(super) fn end(&mut self, session: &Session, now: Moment) {
        let sessions = self.0.get_or_insert_default();
        sessions.retain(|(known, _)| known != session);
        if sessions.len() == ENDED_SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back((session.clone(), now));
    }

    /// A session that the store says has ended; one that is remembered was heard of when it did.
    pub(super) fn know(&mut self, session: &Session, now: Moment) {
        if !self.contains(session, now) {
            self.end(session, now);
        }
    }

    /// Whether this session has ended, and not too long ago to be remembered.
    pub(super) fn contains(&self, session: &Session, now: Moment) -> bool {
        let mut sessions = self.0.iter().flat_map(|sessions| sessions.iter());
        sessions.any(|(known, at)| known == session && now.since(*at) < ENDED_SESSION_MEMORY)
    }
}

/// Ended sessions of keys that hold no lease: whoever registers there next is not taken for them.
#[derive(Debug, Default)]
pub(super) struct Past {
    sessions: HashMap<Key, EndedSessions>,
    /// In the order in which they were kept first; those that were taken out again may stand here twice.
    order: VecDeque<Key>,
}

impl Past {
    /// Keeps what a lease that goes leaves behind.
    pub(super) fn keep(&mut self, record: &Packed, ended: EndedSessions) {
        if ended.0.is_some() {
            *self.entry(record.key()) = ended;
        }
    }

    /// As [`EndedSessions::know`], of a key that holds no lease.
    pub(super) fn know(&mut self, key: &Key, session: &Session, now: Moment) {
        self.entry(key.clone()).know(session, now);
    }

    /// As [`EndedSessions::end`], of a key that holds no lease.
    pub(super) fn end(&mut self, key: &Key, session: &Session, now: Moment) {
        self.entry(key.clone()).end(session, now);
    }

    /// What a new lease of this key begins with.
    pub(super) fn take(&mut self, record: &Packed) -> EndedSessions {
        if self.sessions.is_empty() {
            return EndedSessions::default();
        }
        self.sessions.remove(&record.key()).unwrap_or_default()
    }

    fn entry(&mut self, key: Key) -> &mut EndedSessions {
        if !self.sessions.contains_key(&key) {
            self.order.push_back(key.clone());
            if self.order.len() > PAST_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.sessions.remove(&oldest);
            }
        }
        self.sessions.entry(key).or_default()
    }
}

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::{Service, Text};

/// Bytes of texts that are kept: enough for the services that are read over and over, and little beside the entries
/// where there are very many.
const KEPT_MAX: usize = 32 * 1024 * 1024;

/// The texts that are kept for the next read of the same snapshot. The oldest goes first, whether it was read since or
/// not. One is kept from the second read on, if that comes before as many others as would push it out: where reads are
/// spread over more services than have room, to keep each text and throw it away unread costs more than to make it.
#[derive(Debug, Default)]
pub(super) struct Texts {
    kept: Mutex<Kept>,
    /// Reads that found no text.
    misses: AtomicU32,
}

#[derive(Debug, Default)]
struct Kept {
    /// In the order in which they were made. A snapshot that another has replaced takes its text with it, and is
    /// counted until its turn comes.
    oldest_first: VecDeque<(Weak<Service>, usize)>,
    bytes: usize,
}

impl Texts {
    /// The text of a snapshot, kept or made.
    pub(super) fn of(&self, service: &Arc<Service>) -> Arc<Text> {
        service.text().unwrap_or_else(|| {
            let text = Arc::new(Text::new(service));
            if self.comes_back(service, KEPT_MAX / text.size()) {
                self.keep(service, &text, KEPT_MAX);
            }
            text
        })
    }

    /// Counts a read of a snapshot that has no text. Returns whether the one before is so recent that no more than
    /// `room` others came between.
    fn comes_back(&self, service: &Service, room: usize) -> bool {
        // 0 is no turn.
        let turn = self.misses.fetch_add(1, Relaxed).wrapping_add(1).max(1);
        let before = service.missed(turn);
        before.is_some_and(|before| turn.wrapping_sub(before) as usize <= room)
    }

    fn keep(&self, service: &Arc<Service>, text: &Arc<Text>, most: usize) {
        let size = text.size();
        service.keep_text(Some(Arc::clone(text)));
        let gone = {
            let mut kept = self.kept.lock();
            kept.oldest_first.push_back((Arc::downgrade(service), size));
            kept.bytes += size;
            kept.above(most)
        };
        for service in gone.iter().filter_map(Weak::upgrade) {
            service.keep_text(None);
        }
    }
}

impl Kept {
    /// Takes out the oldest until the rest has at most so many bytes.
    fn above(&mut self, most: usize) -> Vec<Weak<Service>> {
        let mut gone = Vec::new();
        while self.bytes > most {
            let Some((service, size)) = self.oldest_first.pop_front() else { break };
            self.bytes -= size;
            gone.push(service);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{Moment, Pulse},
        entry::{Entry, Key, Record},
    };

    fn service(name: &str) -> Arc<Service> {
        let key = Key { service: name.parse().unwrap(), instance: "x".parse().unwrap() };
        let record = Record::new(key, "http://x:80".parse().unwrap());
        let pulse = Arc::new(Pulse::new(Moment::NEVER));
        let entry = Arc::new(Entry::new(1, 1, (&record).into(), pulse));
        Arc::new(Service::new(record.service_name, [entry].into()))
    }

    #[test]
    fn a_text_is_made_once() {
        let (texts, service) = (Texts::default(), service("a"));
        assert!(!Arc::ptr_eq(&texts.of(&service), &texts.of(&service)), "one read may be the only one");
        let text = texts.of(&service);
        assert!(Arc::ptr_eq(&text, &texts.of(&service)));
        assert_eq!(texts.kept.lock().bytes, text.size());
    }

    #[test]
    fn one_that_comes_back_too_late_is_not_kept() {
        let (texts, service, other) = (Texts::default(), service("a"), service("b"));
        for (others, back) in [(0, false), (2, true), (3, false), (0, true)] {
            for _ in 0..others {
                texts.comes_back(&other, 0);
            }
            assert_eq!(texts.comes_back(&service, 3), back, "{others}");
        }
    }

    #[test]
    fn turns_go_round() {
        let (texts, service) = (Texts::default(), service("a"));
        texts.misses.store(u32::MAX - 2, Relaxed);
        let back: Vec<_> = (0..5).map(|_| texts.comes_back(&service, 2)).collect();
        assert_eq!(back, [false, true, true, true, true]);
    }

    #[test]
    fn the_oldest_go_first_and_bytes_are_bounded() {
        let texts = Texts::default();
        let services: Vec<_> = (0..10).map(|place| service(&format!("s{place}"))).collect();
        let size = Text::new(&services[0]).size();
        for service in &services {
            texts.keep(service, &Arc::new(Text::new(service)), 4 * size);
            assert!(texts.kept.lock().bytes <= 4 * size);
        }
        let kept: Vec<_> = services.iter().map(|service| service.text().is_some()).collect();
        assert_eq!(kept, [false, false, false, false, false, false, true, true, true, true]);
    }

    #[test]
    fn one_that_is_larger_than_all_may_be_is_not_kept() {
        let (texts, service) = (Texts::default(), service("a"));
        texts.keep(&service, &Arc::new(Text::new(&service)), 1);
        assert!(service.text().is_none());
        assert_eq!(texts.kept.lock().bytes, 0);
    }

    #[test]
    fn a_snapshot_that_was_replaced_is_let_go_of() {
        let (texts, service) = (Texts::default(), service("a"));
        texts.of(&service);
        let text = Arc::downgrade(&texts.of(&service));
        assert!(service.text().is_some());
        drop(service);
        assert!(text.upgrade().is_none());
    }
}

use std::{hint::black_box, sync::Arc};

use rand::Rng;

use super::{
    Service,
    render::{field, number, seconds},
};
use crate::{
    clock::{self, Pulse, Sighting},
    entry::{Entry, Life, push_quoted},
};

/// More than what is written of an instance at each read has of bytes; the buffer grows where it is less.
const TIMES_MAX: u32 = 80;

/// As many bytes as the fixed parts of an instance have, and its status and registration; the buffer grows where that
/// is less.
const FIXED_MAX: usize = 128;

/// Instances that are tried before those that are usable are counted.
const TRIES: usize = 4;

/// What the answers about a service say whatever the time, in the order in which it is written: a read goes through one
/// piece of memory and adds the times, which lie in as many places as there are instances.
#[derive(Debug)]
pub struct Text {
    /// The beginning of the answer, then the rows.
    json: String,
    rows: Box<[Row]>,
    /// Where the rows begin.
    begin: usize,
}

/// An instance object without what a beat or time changes, which stands at its end: in one piece, to be copied at once.
#[derive(Debug)]
struct Row {
    life: Life<Arc<Pulse>>,
    /// Where it begins.
    begin: usize,
    /// Where it ends, and where `"endpoint":…,"health_endpoint":…,"metadata":…,"registered_at":…,` begins and ends in it;
    /// all counted from its beginning.
    end: u32,
    address: u32,
    address_end: u32,
    /// Whether traffic may be sent there.
    usable: bool,
}

/// What a time of reading is, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct ReadAt {
    /// How far this node sees.
    pub sighting: Sighting,
    /// The wall clock's reading of `sighting.now`, in Unix seconds.
    pub unix: f64,
}

impl Text {
    pub(super) fn new(service: &Service) -> Self {
        // Once, and not in steps.
        let name = service.name().as_str();
        let rows = service.entries().iter().map(|entry| entry.record.fetch() + name.len() + FIXED_MAX);
        let mut text = String::with_capacity(FIXED_MAX + rows.sum::<usize>());
        // A service name holds nothing that JSON would escape.
        for part in ["{\"service_name\":\"", name, "\","] {
            text.push_str(part);
        }
        let begin = text.len();
        let rows = service.entries().iter().map(|entry| Row::new(&mut text, entry)).collect();
        Self { json: text, rows, begin }
    }

    /// Bytes of memory, about.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.json.capacity() + size_of_val::<[Row]>(&self.rows)
    }

    /// Picks the instance that `curl … | jq -r .endpoint` gets: a random one of those that are usable and not stale,
    /// else of all that are usable. Its place among the entries.
    pub fn pick(&self, sighting: &Sighting, rng: &mut impl Rng) -> Option<usize> {
        // All beats are asked for side by side, before anything waits for one of them.
        black_box(self.rows.iter().map(|row| row.life.last_seen()).max()?);
        // In most services nearly all are usable and fresh, so that one of the first is.
        let tried = (0..TRIES).map(|_| rng.random_range(0..self.rows.len())).find(|place| {
            let row = &self.rows[*place];
            row.usable && !row.life.ended(sighting) && !row.life.stale(sighting)
        });
        if tried.is_some() {
            return tried;
        }
        let usable = || {
            let rows = self.rows.iter().enumerate();
            rows.filter(|(_, row)| row.usable && !row.life.ended(sighting))
        };
        let fresh = || usable().filter(|(_, row)| !row.life.stale(sighting));
        let (count, fresh_count) = usable().fold((0, 0), |(count, fresh), (_, row)| {
            (count + 1, fresh + usize::from(!row.life.stale(sighting)))
        });
        let picked = match (count, fresh_count) {
            (0, _) => None,
            (count, 0) => usable().nth(rng.random_range(0..count)),
            (_, fresh_count) => fresh().nth(rng.random_range(0..fresh_count)),
        };
        picked.map(|(place, _)| place)
    }

    /// The answer to `GET /services/{service}`: `picked` spread at the top, and the usable instances beside it (`all`:
    /// those that are critical or draining too).
    pub fn answer(&self, picked: Option<usize>, all: bool, at: &ReadAt) -> String {
        let picked = picked.and_then(|place| self.rows.get(place));
        let mut out = String::with_capacity(self.room(picked));
        out.push_str(&self.json[..self.begin]);
        if let Some(row) = picked {
            row.write_address(&mut out, &self.json, at);
        }
        out.push_str("\"instances\":[");
        let mut first = true;
        for row in self.rows.iter().filter(|row| (all || row.usable) && !row.life.ended(&at.sighting)) {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            row.write(&mut out, &self.json, at);
        }
        out.push_str("]}");
        out
    }

    /// Room for every row with its times, and for one at the top.
    fn room(&self, picked: Option<&Row>) -> usize {
        let top = picked.map_or(0, |row| (row.address_end - row.address + TIMES_MAX) as usize);
        self.json.len() + top + self.rows.len() * TIMES_MAX as usize + 16
    }
}

impl Row {
    fn new(text: &mut String, entry: &Entry) -> Self {
        let record = &entry.record;
        let begin = text.len();
        // An instance has some 70 KiB at most, by the limits of what it may say.
        let written = |text: &String| {
            u32::try_from(text.len() - begin).unwrap_or_else(|_| unreachable!("longer than the limits allow"))
        };
        text.push('{');
        record.push_names(text);
        let address = written(text) - record.address_len();
        text.push_str("\"registered_at\":");
        seconds(text, record.registered_at);
        text.push(',');
        let address_end = written(text);
        text.push_str("\"status\":\"");
        text.push_str(record.status.as_str());
        text.push_str("\",");
        if let Some(output) = record.output() {
            field(text, "output", output);
        }
        if let Some(reason) = record.drain_reason() {
            text.push_str("\"draining\":true,");
            field(text, "drain_reason", reason);
        } else {
            text.push_str("\"draining\":false,");
        }
        if let Some(address) = record.observed_address() {
            text.push_str("\"observed_address\":");
            push_quoted(text, address);
            text.push(',');
        }
        text.push_str("\"ttl_seconds\":");
        number(text, record.ttl_seconds.seconds());
        text.push(',');
        let end = written(text);
        let life = entry.life().sharing(Arc::clone(&entry.pulse));
        Self { life, begin, end, address, address_end, usable: record.usable() }
    }

    /// One of its parts.
    fn part<'a>(&self, text: &'a str, from: u32, to: u32) -> &'a str {
        &text[self.begin + from as usize..self.begin + to as usize]
    }

    /// Appends it with its times.
    fn write(&self, out: &mut String, text: &str, at: &ReadAt) {
        out.push_str(self.part(text, 0, self.end));
        out.push_str(if self.life.stale(&at.sighting) {
            "\"stale\":true,\"ttl_remaining\":"
        } else {
            "\"stale\":false,\"ttl_remaining\":"
        });
        number(out, self.life.remaining(&at.sighting));
        out.push_str(",\"last_heartbeat\":");
        self.write_last_heartbeat(out, at);
        out.push('}');
    }

    /// Appends what of it stands at the top of an answer.
    fn write_address(&self, out: &mut String, text: &str, at: &ReadAt) {
        out.push_str(self.part(text, self.address, self.address_end));
        out.push_str("\"last_heartbeat\":");
        self.write_last_heartbeat(out, at);
        out.push_str(",\"ttl_remaining\":");
        number(out, self.life.remaining(&at.sighting));
        out.push(',');
    }

    fn write_last_heartbeat(&self, out: &mut String, at: &ReadAt) {
        seconds(out, clock::unix_at(self.life.last_seen(), at.sighting.now, at.unix));
    }
}

/// Appends the instance object of an entry.
pub fn write_instance(out: &mut String, entry: &Entry, at: &ReadAt) {
    let mut text = String::new();
    Row::new(&mut text, entry).write(out, &text, at);
}

//! Writes in the order of their arrival, packed: each takes 20 bytes beside its key, and the oldest leave first.
use std::collections::VecDeque;

/// What a record has before its key.
const HEAD: usize = 20;
/// What a chunk costs beyond its records and nodes: its place in the queue, and what allocators add.
const CHUNK_COST: u64 = 160;
/// A place is the number of a chunk, and below it so many bits for where in the chunk the record begins.
const BITS: u32 = 12;
/// How many chunks there can be.
const CHUNKS: usize = 1 << (u32::BITS - BITS);
/// Times are kept in this many nanoseconds.
const UNIT: u64 = 1_000;
/// Marks a record that is dead: a later write of its key has arrived.
const DEAD: u32 = 1 << 31;

/// Where a record is. It changes when the record's chunk is compacted.
pub type Place = u32;

pub struct Record<'a> {
    pub key: &'a [u8],
    pub version: u128,
    /// The number of its arrival.
    pub number: u64,
    /// When it arrived, in nanoseconds, rounded up.
    pub at: u64,
}

impl Record<'_> {
    /// Returns about how many bytes the record of a key takes in a log, with its part of the chunk's.
    pub fn cost(key: &str) -> u64 {
        (HEAD + key.len()) as u64 + CHUNK_COST
    }

    pub fn name(&self) -> &str {
        std::str::from_utf8(self.key).expect("made of a str")
    }
}

/// Records of 20 bytes and a key: the upper half of the version; the key's length and the position of the version's
/// lower half in `nodes`; the number and the time, both counted from the chunk's.
struct Chunk {
    bytes: Vec<u8>,
    nodes: Vec<u64>,
    number: u64,
    at: u64,
    /// Nothing before this is alive.
    begin: usize,
    /// How many bytes dead records take.
    dead: usize,
}

impl Chunk {
    fn new(number: u64, at: u64) -> Self {
        Self { bytes: Vec::new(), nodes: Vec::new(), number, at, begin: 0, dead: 0 }
    }

    fn cost(&self) -> u64 {
        (self.bytes.len() + self.nodes.len() * size_of::<u64>()) as u64 + CHUNK_COST
    }

    fn takes(&self, version: u128, number: u64, at: u64) -> bool {
        let (number, at) = (u32::try_from(number - self.number), u32::try_from(at.saturating_sub(self.at)));
        number.is_ok() && at.is_ok() && (self.nodes.len() < 256 || self.nodes.contains(&(version as u64)))
    }

    fn push(&mut self, version: u128, number: u64, at: u64, key: &[u8]) -> usize {
        let begin = self.bytes.len();
        let known = self.nodes.iter().position(|&node| node == version as u64);
        let node = known.unwrap_or_else(|| {
            self.nodes.push(version as u64);
            self.nodes.len() - 1
        });
        self.bytes.extend(((version >> 64) as u64).to_le_bytes());
        self.bytes.extend(((key.len() << 8 | node) as u32).to_le_bytes());
        self.bytes.extend(((number - self.number) as u32).to_le_bytes());
        self.bytes.extend((at.saturating_sub(self.at) as u32).to_le_bytes());
        self.bytes.extend(key);
        begin
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(*self.bytes[at..].first_chunk().expect("written by push"))
    }

    fn is_dead(&self, at: usize) -> bool {
        self.word(at + 8) & DEAD != 0
    }

    fn len(&self, at: usize) -> usize {
        ((self.word(at + 8) & !DEAD) >> 8) as usize
    }

    fn key(&self, at: usize) -> &[u8] {
        &self.bytes[at + HEAD..][..self.len(at)]
    }

    fn version(&self, at: usize) -> u128 {
        let time = u64::from_le_bytes(*self.bytes[at..].first_chunk().expect("written by push"));
        let node = self.nodes[(self.word(at + 8) & 0xff) as usize];
        u128::from(time) << 64 | u128::from(node)
    }

    fn record(&self, at: usize) -> Record<'_> {
        Record {
            key: self.key(at),
            version: self.version(at),
            number: self.number + u64::from(self.word(at + 12)),
            at: (self.at + u64::from(self.word(at + 16))).saturating_mul(UNIT),
        }
    }

    /// Returns where the records begin, dead or alive.
    fn places(&self) -> impl Iterator<Item = usize> {
        let after = |at: usize| (at < self.bytes.len()).then_some(at);
        std::iter::successors(after(self.begin), move |&at| after(at + HEAD + self.len(at)))
    }
}

pub struct Log {
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk. Numbers wrap around.
    first: u32,
    /// A chunk ends before it grows beyond this.
    size: usize,
    bytes: u64,
}

impl Log {
    /// Makes an empty log, in chunks of at most 4 KiB.
    pub fn new(size: usize) -> Self {
        Self { chunks: VecDeque::new(), first: 0, size: size.min(1 << BITS), bytes: 0 }
    }

    pub fn emptied(&self) -> Self {
        Self::new(self.size)
    }

    /// Returns how much memory the log takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn has_room(&self) -> bool {
        self.chunks.len() < CHUNKS
    }

    /// Adds a write that arrived after all others.
    pub fn push(&mut self, version: u128, number: u64, at: u64, key: &[u8]) -> Place {
        let at = at.div_ceil(UNIT);
        let size = HEAD + key.len();
        match self.chunks.back_mut() {
            Some(last) if last.bytes.len() + size <= self.size && last.takes(version, number, at) => {}
            last => {
                if let Some(last) = last {
                    last.bytes.shrink_to_fit();
                }
                self.chunks.push_back(Chunk::new(number, at));
                self.bytes += CHUNK_COST;
            }
        }
        let index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[index];
        let cost = chunk.cost();
        let begin = chunk.push(version, number, at, key);
        self.bytes += chunk.cost() - cost;
        self.place(index, begin)
    }

    fn place(&self, index: usize, at: usize) -> Place {
        self.first.wrapping_add(index as u32) << BITS | at as u32
    }

    fn find(&self, place: Place) -> (usize, usize) {
        let index = (place >> BITS).wrapping_sub(self.first) as usize % CHUNKS;
        (index, place as usize % (1 << BITS))
    }

    pub fn key(&self, place: Place) -> &[u8] {
        let (index, at) = self.find(place);
        self.chunks[index].key(at)
    }

    pub fn version(&self, place: Place) -> u128 {
        let (index, at) = self.find(place);
        self.chunks[index].version(at)
    }

    pub fn number(&self, place: Place) -> u64 {
        let (index, at) = self.find(place);
        self.chunks[index].record(at).number
    }

    /// Takes note that a later write of this key has arrived. If more than half of the chunk is dead then, the others
    /// move closer together: `moved` gets the key of each, its place before and its place now. A place before is that
    /// of no other record by then.
    pub fn bury(&mut self, place: Place, mut moved: impl FnMut(&[u8], Place, Place)) {
        let (index, at) = self.find(place);
        let last = index + 1 == self.chunks.len();
        let chunk = &mut self.chunks[index];
        chunk.bytes[at + 11] |= (DEAD >> 24) as u8;
        chunk.dead += HEAD + chunk.len(at);
        // The last one is left to grow first.
        if chunk.dead * 2 <= chunk.bytes.len() || (last && chunk.bytes.len() * 2 < self.size) {
            return;
        }
        let base = place >> BITS << BITS;
        let mut compact = Chunk::new(chunk.number, chunk.at);
        for at in chunk.places().filter(|&at| !chunk.is_dead(at)) {
            let record = chunk.record(at);
            let now = compact.push(record.version, record.number, record.at / UNIT, record.key);
            moved(record.key, base | at as u32, base | now as u32);
        }
        compact.bytes.shrink_to_fit();
        self.bytes -= chunk.cost() - compact.cost();
        *chunk = compact;
    }

    /// Returns the oldest record and its place.
    pub fn front(&mut self) -> Option<(Place, Record<'_>)> {
        loop {
            let chunk = self.chunks.front_mut()?;
            let alive = chunk.places().find(|&at| !chunk.is_dead(at));
            if let Some(at) = alive {
                chunk.begin = at;
                break;
            }
            self.bytes -= chunk.cost();
            self.chunks.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        let at = self.chunks[0].begin;
        Some((self.place(0, at), self.chunks[0].record(at)))
    }

    /// Forgets the record that `front` returned.
    pub fn pop_front(&mut self) {
        let chunk = &mut self.chunks[0];
        chunk.begin += HEAD + chunk.len(chunk.begin);
    }

    /// Returns the records that arrived after a number, in order.
    pub fn after(&self, number: u64) -> impl Iterator<Item = Record<'_>> {
        let begin = self.chunks.partition_point(|chunk| chunk.number <= number).saturating_sub(1);
        let chunks = self.chunks.range(begin..);
        let alive = chunks.flat_map(|chunk| chunk.places().filter(|&at| !chunk.is_dead(at)).map(|at| chunk.record(at)));
        alive.filter(move |record| record.number > number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;

    /// The numbers of chunks wrap around after 4 GiB of writes.
    #[test]
    fn places_hold_when_the_numbers_of_chunks_wrap_around() {
        for first in [0, CHUNKS as u32 - 5, u32::MAX - 5] {
            let mut log = Log { first, ..Log::new(256) };
            let (mut places, mut order) = (HashMap::new(), BTreeMap::new());
            for number in 1..3_000u64 {
                let key = (number * number % 31).to_string();
                let version = u128::from(number) << 64 | u128::from(number % 3);
                let place = log.push(version, number, number, key.as_bytes());
                if let Some(before) = places.insert(key.clone(), place) {
                    order.retain(|_, known| *known != key);
                    log.bury(before, |key, before, now| {
                        let known = places.get_mut(std::str::from_utf8(key).unwrap()).unwrap();
                        assert_eq!(std::mem::replace(known, now), before);
                    });
                }
                order.insert(number, key);
                if number % 5 == 0 {
                    let (place, record) = log.front().unwrap();
                    let (number, key) = order.pop_first().unwrap();
                    assert_eq!((record.number, record.name()), (number, &*key));
                    assert_eq!(places.remove(&key), Some(place));
                    log.pop_front();
                }
                let found: BTreeMap<_, _> =
                    log.after(0).map(|record| (record.number, record.name().to_owned())).collect();
                assert_eq!(found, order);
                assert!(order.iter().all(|(&number, key)| log.version(places[key]) >> 64 == number.into()));
            }
            assert!(log.first.wrapping_sub(first) > 50, "it wraps around");
            while log.front().is_some() {
                log.pop_front();
            }
            assert_eq!(log.bytes(), 0);
        }
    }
}

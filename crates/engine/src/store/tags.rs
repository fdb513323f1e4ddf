//! Entries that are deleted together: those with a tag, and those whose keys begin alike.
//!
//! A tag is deleted by a delete of a key of its own, which its owner orders and everyone is told of, remembers and
//! fetches as any other. All entries that were kept with the tag until then share a cell, which dies with the delete. So
//! that costs the same for any number of them, and a read of one sees it. A prefix is deleted by a note of a key of its
//! own, too, without an owner, as a clear is: it is a floor for the keys that begin so.
//!
//! Invariant: an entry is never older than the remembered delete of one of its tags, or of a prefix of its key. Both are
//! checked before an entry is kept: for a tag under the lock of the shard that has the tag's key, where the entry gets the
//! cell. A delete that comes between that and the keeping kills the cell.
use super::{
    Gone, Mark, Store,
    cells::{self, Cells, TAG},
    entry::{Entry, Origin},
    shard::{Contents, Shard},
};
use crate::{arrivals::arrived, marked, memory::Value, sync::atomic::Ordering};

fn key_of(tag: &str) -> String {
    [TAG, tag].concat()
}

impl<V: Value> Contents<V> {
    /// Returns what cells cost the entry that gets them, in the place of those of the one before it.
    pub fn own(&mut self, hash: u64, key: &[u8], cells: &Cells) -> u8 {
        if !cells.is_empty() {
            self.find(hash, key).into_iter().for_each(|slot| self.cells.take(slot, cells));
        }
        cells::own(cells)
    }
}

impl<V: Value> Store<V> {
    /// Returns a value whose tags have the versions that a load with that mark, or else a write of now, has seen.
    pub fn claimed(&self, bytes: &[u8], since: Option<Mark>) -> Option<bytes::Bytes> {
        if !marked::is_tagged(bytes) {
            return None;
        }
        marked::claimed(bytes, |tag| {
            let key = key_of(tag);
            let hash = self.hash(&key);
            let shard = self.shard(hash);
            if since.is_none() && shard.pending.has(hash, &key) {
                return 0; // a delete comes after this write, but is noted here already
            }
            let number = shard.writes.number(hash, &key);
            let seen = since.is_none_or(|mark| shard.is_complete_since(mark) && number <= mark.arrived);
            let deleted = if seen { shard.writes.named(hash, &key) } else { 0 };
            // A clear forgets the deletes that it covers, and counts as one of every tag from then on.
            let cleared = since.is_none_or(|mark| shard.raised <= mark.arrived);
            if cleared { deleted.max(shard.floor) } else { deleted }
        })
    }

    /// Returns whether a delete of a tag has arrived since a load began, whose tags are not known yet.
    pub(super) fn has_lost_tags_since(&self, mark: Mark) -> bool {
        self.tag_deleted.load(Ordering::Acquire) > mark.arrived
    }

    /// Returns the writes known here that a copy of a key is older than: of the key, and of its tags.
    pub fn newer(&self, key: &str, version: u128, value: Option<&[u8]>) -> Vec<(String, u128)> {
        let known = self.known(key);
        let mut newer: Vec<_> = (known > version).then(|| (key.to_owned(), known)).into_iter().collect();
        for (version, tag) in value.map(marked::tags).into_iter().flatten() {
            let key = key_of(tag);
            let known = self.known(&key);
            if known > version {
                newer.push((key, known));
            }
        }
        newer
    }

    /// Returns whether a copy of a key is older than a write known here.
    pub fn is_older(&self, key: &str, version: u128, value: Option<&[u8]>) -> bool {
        version < self.known(key) || value.is_some_and(marked::is_tagged) && !self.newer(key, version, value).is_empty()
    }

    /// Returns the cells for an entry with this value. None: it is older than the delete of one of its tags.
    pub(super) fn cells(&self, value: Option<&V>, since: Option<Mark>) -> Option<Cells> {
        let bytes = value.map_or(&[][..], Value::bytes);
        if !marked::is_tagged(bytes) {
            return Some(Cells::default());
        }
        let cell = |(version, tag)| {
            let key = key_of(tag);
            let hash = self.hash(&key);
            let mut shard = self.shard(hash);
            let complete = since.is_none_or(|mark| shard.is_complete_since(mark));
            (complete && self.known_in(&shard, hash, &key) <= version).then(|| shard.tags.cell(hash, &key))
        };
        marked::tags(bytes).map(cell).collect()
    }

    /// Returns a value that is written now, with its cells.
    pub(super) fn written(&self, value: Option<V>, gone: &mut Gone<V>) -> (Option<V>, Cells) {
        let Some(mut value) = value else { return (None, Cells::default()) };
        if let Some(claimed) = self.claimed(value.bytes(), None) {
            gone.0.push(std::mem::replace(&mut value, V::received(claimed)));
        }
        match self.cells(Some(&value), None) {
            Some(cells) => (Some(value), cells),
            None => {
                gone.0.push(value); // the delete has come right after this write
                (None, Cells::default())
            }
        }
    }

    /// Takes note that the write of a key has arrived, which may be that of a tag.
    pub(super) fn lose_tag(&self, shard: &mut Shard<V>, hash: u64, key: &str) {
        if key.starts_with(TAG) {
            shard.tags.kill(hash, key);
            self.tag_deleted.fetch_max(arrived(), Ordering::Release);
        }
    }

    /// Drops the entries whose keys begin so, and keeps none that is older from now on. This looks at every entry.
    pub(super) fn lose_prefix(&self, prefix: &str, version: u128, gone: &mut Gone<V>) {
        let now = self.options.clock.coarse();
        let old = |entry: &Entry<V>, origin: &Origin| {
            origin.version < version && entry.key.as_bytes().starts_with(prefix.as_bytes())
        };
        for index in 0..self.shards.len() {
            self.thin(index, &old, gone);
            let mut shard = self.lock(index);
            shard.prefixes.add(prefix, version, now);
            let old = self.remove_if(&mut shard, &old);
            drop(shard);
            old.into_iter().for_each(|entry| gone.add(entry));
        }
    }
}

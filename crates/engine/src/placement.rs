//! The owners of keys: members -> an immutable table of candidates, equal on every node that knows the same members.
//!
//! A key's stable hash picks one of 65,536 slots. Each slot ranks the members by weighted rendezvous hashing (Thaler
//! and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM ToN 1998; Schindelhauer and Schomaker,
//! "Weighted distributed hash tables", SPAA 2005), and no member owns more than 1.06 of its share (bounded loads:
//! Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", SODA 2018). A member that must turn
//! slots away keeps those that rank it best. That is a stable matching (Gale and Shapley, 1962): it depends on no
//! order, and a change of one member moves little else. Limits are whole slots: at a few hundred members and more they
//! are small, and the change that lifts all of them by one (from 993 members to 992, say) moves several shares.
//!
//! Integers and basic IEEE arithmetic only: every platform builds the same table.

use crate::hash::{mix64, stable_hash};
use std::collections::BinaryHeap;

/// Slots of a table.
pub const SLOTS: usize = 1 << 16;
/// Candidates that a slot names, at most.
pub const CANDIDATES: usize = 4;
const BOUND: f64 = 1.06;

/// The table of one set of members.
pub struct Placement {
    rows: Vec<[u16; CANDIDATES]>,
    width: usize,
}

impl Placement {
    /// Builds the table of (id, weight) pairs, in any order; a member's share of the slots follows its weight. The error
    /// says what is wrong with the members.
    pub fn new<S: AsRef<str>>(members: &[(S, f64)]) -> Result<Self, String> {
        let ranked = Members::new(members)?;
        let width = members.len().min(CANDIDATES);
        let mut choices: Vec<Choices> = (0..SLOTS).map(|slot| ranked.best(slot)).collect();
        let owners = ranked.owners(&choices);
        let rows = choices.iter_mut().zip(owners).map(|(choices, owner)| {
            // The owner goes first; the others keep their order.
            let at = choices.iter().position(|choice| *choice == owner).unwrap_or(width - 1);
            choices[..=at].rotate_right(1);
            choices[0] = owner;
            choices.map(|choice| ranked.positions.get(choice.member()).copied().unwrap_or(0))
        });
        Ok(Placement { rows: rows.collect(), width })
    }

    /// Returns positions in the members given: the owner, the next in line, and so on; four at most.
    pub fn candidates(&self, key: &str) -> &[u16] {
        &self.rows[slot_of(stable_hash(key.as_bytes()))][..self.width]
    }

    /// Returns the position of the member that owns this key.
    pub fn owner(&self, key: &str) -> u16 {
        self.owner_of_hash(stable_hash(key.as_bytes()))
    }

    /// Returns the owner for a key's `stable_hash`.
    pub fn owner_of_hash(&self, hash: u64) -> u16 {
        self.rows[slot_of(hash)][0]
    }

    /// Returns the owner of every slot.
    pub fn owners(&self) -> impl ExactSizeIterator<Item = u16> {
        self.rows.iter().map(|row| row[0])
    }
}

fn slot_of(hash: u64) -> usize {
    (hash >> 48) as usize
}

/// A member as a slot sees it, the nearest first: the distance as the bits of a float (positive ones order as their
/// bits), the lowest 16 replaced by the member, so that no two are equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Choice(u64);

type Choices = [Choice; CANDIDATES];

impl Choice {
    const NONE: Choice = Choice(f64::MAX.to_bits());

    fn new(distance: f64, member: usize) -> Self {
        Choice(distance.to_bits() & !0xffff | member as u64)
    }

    fn member(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// Returns an upper bound of its distance.
    fn distance(self) -> f64 {
        f64::from_bits(self.0 | 0xffff)
    }
}

struct Member {
    keys: (u64, u64),
    /// A random draw times this is a lower bound of the distance.
    scale: f64,
    limit: usize,
}

/// The members by id, so that no table depends on the order given.
struct Members {
    members: Vec<Member>,
    positions: Vec<u16>,
}

impl Members {
    fn new<S: AsRef<str>>(given: &[(S, f64)]) -> Result<Self, String> {
        if given.is_empty() {
            return Err("a placement needs at least one member".into());
        }
        if given.len() > usize::from(u16::MAX) {
            return Err(format!("a placement takes at most {} members", u16::MAX));
        }
        let id = |position: &u16| given[usize::from(*position)].0.as_ref();
        let weight = |position: &u16| given[usize::from(*position)].1;
        let mut positions: Vec<u16> = (0..given.len() as u16).collect();
        positions.sort_unstable_by_key(id);
        if let Some(pair) = positions.windows(2).find(|pair| id(&pair[0]) == id(&pair[1])) {
            return Err(format!("member {:?} is named twice", id(&pair[0])));
        }
        if let Some(bad) = positions.iter().find(|position| !(weight(position) > 0.0 && weight(position).is_normal())) {
            return Err(format!("the weight of member {:?} is not a positive number", id(bad)));
        }
        // In units of the heaviest, so that no sum overflows.
        let heaviest = positions.iter().map(weight).fold(0.0, f64::max);
        let total: f64 = positions.iter().map(|position| weight(position) / heaviest).sum();
        let mut members: Vec<Member> = positions
            .iter()
            .map(|position| {
                let hash = stable_hash(id(position).as_bytes());
                let keys = (mix64(hash), mix64(hash.wrapping_add(0x9e37_79b9_7f4a_7c15)));
                let bound = BOUND * SLOTS as f64 * (weight(position) / heaviest / total);
                Member { keys, scale: (heaviest / weight(position)).min(1e100), limit: bound as usize }
            })
            .collect();
        // With thousands of members rounding down could leave slots without an owner.
        while members.iter().map(|member| member.limit).sum::<usize>() < SLOTS {
            members.iter_mut().for_each(|member| member.limit += 1);
        }
        Ok(Members { members, positions })
    }

    /// Returns each member's draw for the slot: uniform in 0..2^53.
    fn draws(&self, slot: usize) -> impl Iterator<Item = (usize, f64, f64)> {
        let keys = (mix64(slot as u64 + 1), mix64(!(slot as u64)));
        self.members.iter().enumerate().map(move |(number, member)| {
            let product = u128::from(keys.0 ^ member.keys.0) * u128::from(keys.1 ^ member.keys.1);
            let draw = (product as u64 ^ (product >> 64) as u64) >> 11;
            (number, draw as i64 as f64, member.scale)
        })
    }

    fn best(&self, slot: usize) -> Choices {
        let mut best = [Choice::NONE; CANDIDATES];
        let mut farthest = f64::MAX;
        for (member, draw, scale) in self.draws(slot) {
            // exponential(x) is at least x, which rules out nearly all members without computing it.
            if draw * scale < farthest {
                let mut choice = Choice::new(exponential(draw) * scale, member);
                for kept in &mut best {
                    (*kept, choice) = ((*kept).min(choice), (*kept).max(choice));
                }
                farthest = best[CANDIDATES - 1].distance();
            }
        }
        best
    }

    /// Returns the slot's next choice after that one.
    fn next(&self, slot: usize, last: Choice) -> Choice {
        let all = self.draws(slot).map(|(member, draw, scale)| Choice::new(exponential(draw) * scale, member));
        all.filter(|choice| *choice > last).min().unwrap_or(Choice::NONE)
    }

    /// Returns the owner of each slot by deferred acceptance: each slot asks its choices in turn, and a member over its
    /// limit turns its farthest slot away.
    fn owners(&self, choices: &[Choices]) -> Vec<Choice> {
        let mut held: Vec<BinaryHeap<(Choice, u16)>> = self.members.iter().map(|_| BinaryHeap::new()).collect();
        let mut asked = vec![0_usize; SLOTS];
        let mut current: Vec<Choice> = choices.iter().map(|choices| choices[0]).collect();
        for first in 0..SLOTS {
            let mut slot = first;
            loop {
                let choice = current[slot];
                let held = &mut held[choice.member()];
                held.push((choice, slot as u16));
                if held.len() <= self.members[choice.member()].limit {
                    break;
                }
                let Some((last, refused)) = held.pop() else { break };
                slot = usize::from(refused);
                asked[slot] += 1;
                current[slot] = choices[slot].get(asked[slot]).copied().unwrap_or_else(|| self.next(slot, last));
            }
        }
        current
    }
}

/// Turns a uniform draw into an exponential one: -ln(1 - x) in units of 2^-53, for x = draw / 2^53. Libraries'
/// logarithms differ in the last bit; this one is the same everywhere, and exact to 1e-5.
fn exponential(draw: f64) -> f64 {
    const ONE: f64 = (1_u64 << 53) as f64;
    let mut rest = ONE - draw;
    let mut halvings = 0.0;
    while rest < 0.5 * ONE {
        rest *= 2.0;
        halvings += 1.0;
    }
    // -ln(rest) = 2 artanh(z), z at most a third
    let z = (if halvings == 0.0 { draw } else { ONE - rest }) / (ONE + rest);
    let square = z * z;
    let series = 1.0 + square * (1.0 / 3.0 + square * (1.0 / 5.0 + square * (1.0 / 7.0)));
    ONE * (halvings * std::f64::consts::LN_2 + 2.0 * z * series)
}

//! Placement: equal tables everywhere, balance, and how little moves when a member comes or goes.

use kamacache_engine::hash::stable_hash;
use kamacache_engine::placement::{Placement, SLOTS};

type Members = Vec<(String, f64)>;

fn equal(count: usize) -> Members {
    (0..count).map(|number| (format!("10.0.{}.{}:8001", number / 256, number % 256), 1.0)).collect()
}

fn weighted(count: usize) -> Members {
    equal(count).into_iter().enumerate().map(|(number, (id, _))| (id, 1.0 + (number % 4) as f64)).collect()
}

fn table(members: &Members) -> Placement {
    Placement::new(members).expect("good members")
}

fn owners<'a>(members: &'a Members, placement: &Placement) -> Vec<&'a str> {
    placement.owners().map(|owner| members[usize::from(owner)].0.as_str()).collect()
}

fn share(members: &Members, number: usize) -> f64 {
    SLOTS as f64 * members[number].1 / members.iter().map(|member| member.1).sum::<f64>()
}

#[test]
fn no_member_owns_more_than_a_little_over_its_share() {
    for count in [3, 10, 100, 1000] {
        for members in [equal(count), weighted(count)] {
            let mut loads = vec![0; count];
            table(&members).owners().for_each(|owner| loads[usize::from(owner)] += 1);
            for (number, load) in loads.into_iter().enumerate() {
                assert!(f64::from(load) <= 1.06 * share(&members, number), "{count} members: {load} slots");
            }
        }
    }
}

/// A table depends on its members alone, so joining moves exactly the slots that leaving does.
#[test]
fn little_more_than_the_share_moves() {
    for (count, most) in [(3, 1.2), (10, 1.2), (50, 1.2), (100, 1.2), (1000, 2.0)] {
        for with in [equal(count), weighted(count)] {
            let before = table(&with);
            for number in [0, count / 3, count - 1] {
                let mut without = with.clone();
                without.remove(number);
                let after = table(&without);
                let pairs = owners(&with, &before).into_iter().zip(owners(&without, &after));
                let moved = pairs.filter(|(before, after)| before != after).count();
                let share = share(&with, number);
                assert!(moved as f64 <= most * share, "{count} members: {moved} moved, a share is {share}");
            }
        }
    }
}

#[test]
fn known_tables_never_change() {
    let digest = |members: &Members| {
        let bytes: Vec<u8> = table(members).owners().flat_map(u16::to_le_bytes).collect();
        stable_hash(&bytes)
    };
    let digests = [equal(10), weighted(10), equal(300), weighted(300)].map(|members| digest(&members));
    let known = [17613100205614172243, 9189611544509079123, 995156468640467909, 3457390939428870606];
    assert_eq!(digests, known);
}

#[test]
fn bad_members_are_refused() {
    let trouble = |members: &[(&str, f64)]| Placement::new(members).err();
    assert_eq!(trouble(&[]).unwrap(), "a placement needs at least one member");
    assert_eq!(trouble(&[("a", 1.0), ("b", 1.0), ("a", 2.0)]).unwrap(), "member \"a\" is named twice");
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-320] {
        let text = "the weight of member \"b\" is not a positive number";
        assert_eq!(trouble(&[("a", 1.0), ("b", weight)]).unwrap(), text);
    }
}

#[test]
fn weights_far_apart_still_give_a_whole_table() {
    let table = Placement::new(&[("a", 1e300), ("b", 1e-300), ("c", 1.0)]).expect("good members");
    assert!(table.owners().all(|owner| owner == 0));
    assert_eq!(table.candidates("42").len(), 3);
}

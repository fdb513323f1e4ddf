use kamacache_engine::placement::*;
use std::time::Instant;
fn main() {
    for n in [3usize, 10, 30, 100, 300, 1000] {
        for weighted in [false, true] {
            let ids: Vec<(String, f64)> = (0..n)
                .map(|i| {
                    (
                        format!("10.0.{}.{}:8001", i / 256, i % 256),
                        if weighted { 1.0 + (i % 4) as f64 } else { 1.0 },
                    )
                })
                .collect();
            let total: f64 = ids.iter().map(|m| m.1).sum();
            let t = Instant::now();
            let p = Placement::new(&ids).unwrap();
            let dt = t.elapsed();
            let mut load = vec![0; n];
            p.owners().for_each(|o| load[o as usize] += 1);
            let full = load
                .iter()
                .enumerate()
                .map(|(i, l)| *l as f64 * total / ids[i].1 / 65536.0)
                .fold(0.0, f64::max);
            let mut worst: f64 = 0.0;
            let mut sum = 0.0;
            let k = n.min(12);
            for j in 0..k {
                let gone = j * n / k;
                let mut rest = ids.clone();
                rest.remove(gone);
                let q = Placement::new(&rest).unwrap();
                let moved = p
                    .owners()
                    .zip(q.owners())
                    .filter(|(a, b)| *a as usize != *b as usize + (*b as usize >= gone) as usize)
                    .count();
                let m = moved as f64 / (65536.0 * ids[gone].1 / total);
                worst = worst.max(m);
                sum += m;
            }
            println!(
                "{n} {weighted} {dt:?} fullest {full:.4} moved worst {worst:.3} mean {:.3}",
                sum / k as f64
            );
        }
    }
}

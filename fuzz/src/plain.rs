//! Makes inputs without knowledge of what they reach: the seeds, changed at random. For machines without a C++ compiler.
use std::{
    fs,
    path::PathBuf,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

/// The longest input, as libFuzzer has it.
const LONGEST: usize = 4096;
/// No input may take longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The input under way, and since when.
static NOW: Mutex<(Vec<u8>, Option<Instant>)> = Mutex::new((Vec::new(), None));

/// Numbers from a seed (xorshift64*), so that a run can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let end = (at + 1 + self.below(16)).min(input.len());
        match self.below(6) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'\r', b'\n', b'*'][self.below(8)],
            2 => input.insert(at, self.below(256) as u8),
            3 if at < end => drop(input.drain(at..end)),
            4 if at < end => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            _ => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
        input.truncate(LONGEST);
    }
}

/// Reads the flags that libFuzzer has too: `-runs=N`, `-seed=N`, `-artifact_prefix=…` and directories of seeds; ignores
/// the others.
pub fn run(feed: fn(&[u8])) {
    let (mut runs, mut chance, mut artifacts, mut seeds) = (0, Chance(1), String::new(), vec![Vec::new()]);
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("-runs", number)) => runs = number.parse().expect("a number of inputs"),
            Some(("-seed", number)) => chance.0 = number.parse::<u64>().expect("a number").max(1),
            Some(("-artifact_prefix", prefix)) => artifacts = prefix.to_owned(),
            _ if argument.starts_with('-') => {}
            _ => {
                let files = fs::read_dir(&argument).expect("a directory of seeds");
                let mut paths: Vec<PathBuf> = files.map(|file| file.expect("its name").path()).collect();
                paths.sort();
                seeds.extend(paths.iter().map(|path| fs::read(path).expect("a seed")));
            }
        }
    }
    let keep = move |what: &str| {
        let path = format!("{artifacts}{what}-{}", std::process::id());
        let now = NOW.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        fs::write(&path, &now.0).expect("room for the input");
        eprintln!("the input is kept in {path}");
        std::process::abort();
    };
    let (kept, standard) = (keep.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        standard(info);
        kept("crash");
    }));
    thread::spawn(move || {
        loop {
            thread::sleep(PATIENCE / 10);
            let begun = NOW.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).1;
            if begun.is_some_and(|begun| begun.elapsed() > PATIENCE) {
                keep("timeout");
            }
        }
    });
    for number in 0..runs.max(seeds.len()) {
        let mut input = seeds[number % seeds.len()].clone();
        if number >= seeds.len() {
            (0..=chance.below(8)).for_each(|_| chance.change(&mut input, &seeds));
        }
        *NOW.lock().expect("no panic yet") = (input.clone(), Some(Instant::now()));
        feed(&input);
    }
    eprintln!("Done {} runs, {} seeds", runs.max(seeds.len()), seeds.len() - 1);
}

//! Every input of the corpus, each time; then for a moment what becomes of them by chance.
//!
//! `FUZZ_SECONDS` is how long for each target, `FUZZ_SEED` repeats a run. This is blind mutation: what is guided by
//! coverage is `make fuzz`.

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    time::Duration,
};

use fuzz::{TARGETS, Target};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use registry::clock;

/// Longer inputs than this come from the corpus alone.
const LENGTH_MAX: usize = 4096;

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let files = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("what is there"))).collect()
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

/// One input made from others: bytes changed, left out, doubled, and the end of another one put on.
fn mutated(corpus: &[(PathBuf, Vec<u8>)], rng: &mut StdRng) -> Vec<u8> {
    const TELLING: &[u8] = b"\0\n\r\t \"%&'*+,-./:;<=>?@[\\]_{}09azAZ\x7f\x80\xc3\xff";
    let any = |rng: &mut StdRng| corpus.choose(rng).map_or_else(Vec::new, |(_, input)| input.clone());
    let mut input = any(rng);
    for _ in 0..rng.random_range(1..=4) {
        let place = rng.random_range(0..=input.len());
        match rng.random_range(0..6) {
            0 => input.insert(place, TELLING[rng.random_range(0..TELLING.len())]),
            1 => input.insert(place, rng.random()),
            2 => drop(input.drain(place..(place + rng.random_range(1..8)).min(input.len()))),
            3 => {
                let end = (place + rng.random_range(1..64)).min(input.len());
                let again = input[place..end].repeat(rng.random_range(1..8));
                input.splice(place..place, again);
            }
            4 => {
                let other = any(rng);
                let from = rng.random_range(0..=other.len());
                input.splice(place.., other[from..].iter().copied());
            }
            _ if place < input.len() => input[place] ^= 1 << rng.random_range(0..8),
            _ => {}
        }
    }
    input.truncate(LENGTH_MAX);
    input
}

fn holds(target: &Target, input: &[u8], whence: &str) {
    let ran = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    assert!(
        ran.is_ok(),
        "{}: the property above does not hold for {whence}:\n{}\nPut it into fuzz/corpus/{}/ as a file of its own.",
        target.name,
        input.escape_ascii(),
        target.name
    );
}

fn try_out(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    for (path, input) in &corpus {
        holds(target, input, &path.display().to_string());
    }
    let seed = setting("FUZZ_SEED", rand::random());
    let mut rng = StdRng::seed_from_u64(seed);
    let (begun, time) = (clock::now(), Duration::from_secs(setting("FUZZ_SECONDS", 2)));
    let mut count = 0_u64;
    while clock::now().since(begun) < time {
        holds(target, &mutated(&corpus, &mut rng), &format!("FUZZ_SEED={seed}, input {count}"));
        count += 1;
    }
    println!("{name}: {} inputs of the corpus, {count} made of them", corpus.len());
    assert!(count > 0);
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            try_out(stringify!($name));
        })*

        #[test]
        fn every_target_is_tried() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets! { bodies calls endpoints names pages replies stores tokens }

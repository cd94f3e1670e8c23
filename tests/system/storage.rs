//! The conformance suite: what every backend must do before it may hold promises.
//!
//! Each test takes any backend; `conformance!` runs all of them over each. What needs real processes is in
//! [`crash`], what concerns sled alone in [`sled_files`].

mod crash;
mod sled_files;

use std::collections::BTreeMap;

use paxoskv::storage::memory::Memory;
use paxoskv::storage::sled::Sled;
use paxoskv::storage::{Record, Store, Write};
use tempfile::TempDir;

/// A way to make a store, to stop it, and to find it again.
trait StoreFactory {
    type Backend: Store;
    fn create() -> Self;
    fn open(&self) -> Self::Backend;
    /// Ends one life of the store and begins the next with what is durable.
    fn reopen(&self, store: Self::Backend) -> Self::Backend;
}

struct InMemory;

impl StoreFactory for InMemory {
    type Backend = Memory;
    fn create() -> InMemory {
        InMemory
    }
    fn open(&self) -> Memory {
        Memory::new()
    }
    fn reopen(&self, store: Memory) -> Memory {
        store.clone()
    }
}

struct OnSled(TempDir);

impl StoreFactory for OnSled {
    type Backend = Sled;
    fn create() -> OnSled {
        OnSled(scratch())
    }
    fn open(&self) -> Sled {
        Sled::open(self.0.path()).expect("the store opens")
    }
    fn reopen(&self, store: Sled) -> Sled {
        drop(store);
        self.open()
    }
}

/// A directory on the build's own filesystem: the usual temporary directory may be in memory, where nothing is synced.
fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory")
}

fn put(key: impl AsRef<[u8]>, record: impl AsRef<[u8]>) -> Write {
    (key.as_ref().to_vec(), Some(record.as_ref().to_vec()))
}

fn delete(key: impl AsRef<[u8]>) -> Write {
    (key.as_ref().to_vec(), None)
}

fn commit(store: &mut impl Store, batch: &[Write]) {
    store.commit(batch).expect("the commit succeeds");
}

fn get(store: &impl Store, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    store.get(key.as_ref()).expect("the read succeeds")
}

/// All records, read in pages of `limit`.
fn scan_all(store: &impl Store, limit: usize) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let cursor = records.last().map(|(key, _)| key.clone());
        let page = store.scan(cursor.as_deref(), limit).expect("the scan succeeds");
        assert!(page.len() <= limit);
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}

/// Bytes that differ at every position and for every seed, so that chunks in the wrong place are seen.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    std::iter::repeat_with(|| random.next().to_be_bytes()).flatten().take(length).collect()
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same history on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }
}

/// Keys that a sloppy layout confuses: prefixes of each other, separators, all-zero and all-one bytes, the longest.
fn awkward_keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = ["", "a", "aa", "ab", "b", "c", "ca", "r", "rr", "r\0", "c\0\u{1}a\0\0", "s"]
        .iter()
        .map(|key| key.as_bytes().to_vec())
        .collect();
    keys.extend([vec![0], vec![0, 0], vec![0, 0, 1], vec![255], vec![255; 2], vec![255; 2047], vec![255; 2048]]);
    keys.extend((0..40_u8).map(|last| [&[7; 2047], &[last][..]].concat()));
    keys.extend([vec![7; 1], vec![7; 255], vec![7; 256], vec![7; 257], vec![7; 2047]]);
    keys.sort();
    keys.dedup();
    keys
}

fn a_committed_record_is_read_back<F: StoreFactory>() {
    let factory = F::create();
    let mut store = factory.open();
    assert_eq!(get(&store, "k"), None);
    commit(&mut store, &[put("k", "one"), put("empty", "")]);
    assert_eq!(get(&store, "k").as_deref(), Some(&b"one"[..]));
    assert_eq!(get(&store, "empty").as_deref(), Some(&b""[..]));
    assert_eq!(get(&store, "missing"), None);
    commit(&mut store, &[]);
    assert_eq!(scan_all(&store, 10).len(), 2);
}

fn a_batch_writes_and_deletes_together<F: StoreFactory>() {
    let factory = F::create();
    let mut store = factory.open();
    commit(&mut store, &[put("a", "1"), put("b", "1"), put("c", pattern(1, 20_000))]);
    commit(&mut store, &[put("a", "2"), delete("b"), delete("c"), delete("never was"), put("d", "2")]);
    let store = factory.reopen(store);
    assert_eq!(scan_all(&store, 10), [(b"a".to_vec(), b"2".to_vec()), (b"d".to_vec(), b"2".to_vec())]);
    assert_eq!(get(&store, "b"), None);
    assert_eq!(get(&store, "c"), None);
}

fn an_overwrite_leaves_nothing_of_the_longer_record<F: StoreFactory>() {
    let factory = F::create();
    let mut store = factory.open();
    let lengths = [80 * 1024, 10, 40_000, 0, 4093, 4094, 4095, 4096, 8190, 8191, 12_287, 1, 80 * 1024];
    for (step, length) in (1_u64..).zip(lengths) {
        commit(&mut store, &[put("k", pattern(step, length))]);
        assert_eq!(get(&store, "k"), Some(pattern(step, length)), "after {length} bytes");
        store = factory.reopen(store);
        assert_eq!(scan_all(&store, 3), [(b"k".to_vec(), pattern(step, length))], "after {length} bytes");
    }
    commit(&mut store, &[delete("k")]);
    commit(&mut store, &[put("k", pattern(99, 5000))]);
    assert_eq!(get(&store, "k"), Some(pattern(99, 5000)));
}

fn a_batch_of_many_long_records_is_whole<F: StoreFactory>() {
    let factory = F::create();
    let mut store = factory.open();
    let batch: Vec<Write> = (0..200_u64).map(|number| put(number.to_be_bytes(), pattern(number, 80 * 1024))).collect();
    commit(&mut store, &batch);
    let store = factory.reopen(store);
    let expected: Vec<Record> =
        (0..200_u64).map(|number| (number.to_be_bytes().to_vec(), pattern(number, 80 * 1024))).collect();
    assert!(scan_all(&store, 64) == expected);
}

fn awkward_keys_stay_apart<F: StoreFactory>() {
    let factory = F::create();
    let mut store = factory.open();
    let keys = awkward_keys();
    let record = |at: usize| pattern(at as u64, [3, 5000, 0, 20_000][at % 4]);
    for (at, key) in keys.iter().enumerate() {
        commit(&mut store, &[put(key, record(at))]);
    }
    let store = factory.reopen(store);
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(get(&store, key), Some(record(at)), "key {key:?}");
    }
    let expected: Vec<Record> = keys.iter().enumerate().map(|(at, key)| (key.clone(), record(at))).collect();
    assert!(scan_all(&store, 7) == expected);
}

fn a_scan_is_ordered_and_resumes_after_its_cursor<F: StoreFactory>() {
    let factory = F::create();
    let mut store = factory.open();
    let keys = ["m", "b", "mm", "z", "ma", "a"];
    let batch: Vec<Write> = keys.iter().map(|key| put(key, pattern(1, 9000))).collect();
    commit(&mut store, &batch);
    let names = |after: Option<&str>, limit| -> Vec<String> {
        let page = store.scan(after.map(str::as_bytes), limit).expect("the scan succeeds");
        page.into_iter().map(|(key, _)| String::from_utf8(key).expect("it was text")).collect()
    };
    assert_eq!(names(None, 100), ["a", "b", "m", "ma", "mm", "z"]);
    assert_eq!(names(None, 2), ["a", "b"]);
    assert_eq!(names(None, 0), [""; 0]);
    assert_eq!(names(Some(""), 1), ["a"]);
    assert_eq!(names(Some("m"), 2), ["ma", "mm"], "the cursor itself is not repeated");
    assert_eq!(names(Some("c"), 2), ["m", "ma"], "the cursor need not be a key");
    assert_eq!(names(Some("z"), 5), [""; 0]);
    assert_eq!(names(Some("zz"), 5), [""; 0]);
}

fn a_long_history_matches_a_map_over_many_lives<F: StoreFactory>() {
    let factory = F::create();
    let mut store = factory.open();
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let keys = awkward_keys();
    let mut random = Random(7);
    for step in 0..300_u64 {
        let mut batch: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for _ in 0..=random.below(6) {
            let length = [0, 150, 4094, 6000, 80 * 1024][random.below(5)];
            let record = (random.below(3) > 0).then(|| pattern(step, length));
            batch.insert(keys[random.below(keys.len())].clone(), record);
        }
        let batch: Vec<Write> = batch.into_iter().collect();
        commit(&mut store, &batch);
        for (key, record) in batch {
            match record {
                Some(record) => model.insert(key, record),
                None => model.remove(&key),
            };
        }
        let probe = &keys[random.below(keys.len())];
        assert_eq!(get(&store, probe), model.get(probe).cloned(), "step {step}");
        if step % 30 == 29 {
            store = factory.reopen(store);
            assert!(scan_all(&store, 1 + random.below(9)).into_iter().eq(model.clone()), "step {step}");
        }
    }
}

macro_rules! conformance {
    ($($test:ident)*) => {
        mod memory { $(#[test] fn $test() { super::$test::<super::InMemory>() })* }
        mod sled { $(#[test] fn $test() { super::$test::<super::OnSled>() })* }
    };
}

conformance! {
    a_committed_record_is_read_back
    a_batch_writes_and_deletes_together
    an_overwrite_leaves_nothing_of_the_longer_record
    a_batch_of_many_long_records_is_whole
    awkward_keys_stay_apart
    a_scan_is_ordered_and_resumes_after_its_cursor
    a_long_history_matches_a_map_over_many_lives
}

#[test]
fn a_clone_of_a_memory_store_is_the_image_of_its_moment() {
    let mut store = Memory::new();
    commit(&mut store, &[put("k", "before")]);
    let mut image = store.clone();
    commit(&mut store, &[put("k", "after")]);
    commit(&mut image, &[put("other", "x")]);
    assert_eq!(get(&image, "k").as_deref(), Some(&b"before"[..]));
    assert_eq!(get(&store, "k").as_deref(), Some(&b"after"[..]));
    assert_eq!((store.len(), image.len()), (1, 2));
}

//! What the sled backend does with its directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use paxoskv::storage::sled::Sled;
use paxoskv::storage::{Store, StoreError, Write};

use super::{commit, get, pattern, put, scan_all, scratch};

#[test]
fn a_second_opener_in_the_process_is_refused_and_harmless() {
    let directory = scratch();
    let mut store = Sled::open(directory.path()).expect("the store opens");
    commit(&mut store, &[put("k", "1")]);
    assert!(matches!(Sled::open(directory.path()), Err(StoreError::Locked(_))));
    commit(&mut store, &[put("k", "2")]);
    drop(store);
    let store = Sled::open(directory.path()).expect("it opens once the first is gone");
    assert_eq!(get(&store, "k").as_deref(), Some(&b"2"[..]));
}

#[test]
fn the_directory_is_created_for_the_owner_alone() {
    let scratch = scratch();
    let directory = scratch.path().join("state").join("paxoskv");
    let store = Sled::open(&directory).expect("the store opens");
    assert!(store.disk_bytes() > 0);
    for path in [&directory, &directory.join("sled")] {
        let mode = fs::metadata(path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", path.display());
    }
}

/// 4,000 keys of 2 KiB that differ only near their ends: the longest index nodes that there can be. With segments of
/// 512 KiB, as sled has them, this leaves the log for a file that is never synced.
#[test]
fn an_index_of_long_similar_keys_makes_no_blob() {
    let directory = scratch();
    let key = |number: u32| [&[b'k'; 2044][..], &number.to_be_bytes()].concat();
    let mut store = Sled::open(directory.path()).expect("the store opens");
    for start in (0..4000).step_by(500) {
        let batch: Vec<Write> = (start..start + 500).map(|number| put(key(number), pattern(1, 300))).collect();
        commit(&mut store, &batch);
    }
    for start in (0..4000).step_by(500) {
        let batch: Vec<Write> =
            (start..start + 500).filter(|number| number % 9 > 0).map(|number| (key(number), None)).collect();
        commit(&mut store, &batch);
    }
    drop(store);
    let store = Sled::open(directory.path()).expect("it opens again");
    assert_eq!(scan_all(&store, 100).len(), 4000_usize.div_ceil(9));
}

#[test]
fn a_store_that_met_a_blob_stops() {
    let directory = scratch();
    let mut store = Sled::open(directory.path()).expect("the store opens");
    commit(&mut store, &[put("k", "1")]);
    let blob = directory.path().join("sled/blobs/4096");
    fs::write(&blob, "unsynced").expect("the file is written");
    assert!(matches!(store.commit(&[put("k", "2")]), Err(StoreError::Failed { .. })));
    fs::remove_file(&blob).expect("the file goes away");
    for outcome in [store.get(b"k").map(|_| ()), store.commit(&[put("k", "3")]), store.scan(None, 1).map(|_| ())] {
        let error = outcome.expect_err("a stopped store stays stopped");
        assert!(error.to_string().ends_with("store stopped after an earlier failure"), "{error}");
    }
}

#[test]
fn a_key_over_the_limit_is_an_error_and_not_a_panic() {
    let directory = scratch();
    let mut store = Sled::open(directory.path()).expect("the store opens");
    assert!(matches!(store.get(&[1; 70_000]), Ok(None)));
    assert!(matches!(store.commit(&[put([1; 2049], "x")]), Err(StoreError::Failed { .. })));
}

/// A process killed while it opens a store can leave an empty snapshot under a name that sorts last. sled reads it and
/// calls the store corrupt, at this and every later opening.
#[test]
fn an_unfinished_snapshot_does_not_close_the_store() {
    let directory = scratch();
    let mut store = Sled::open(directory.path()).expect("the store opens");
    commit(&mut store, &[put("k", "1")]);
    drop(store);
    let leftover = directory.path().join("sled/snap.00000000FFFFFFFF.generating");
    fs::write(&leftover, "").expect("the file is written");
    let store = Sled::open(directory.path()).expect("it opens all the same");
    assert_eq!(get(&store, "k").as_deref(), Some(&b"1"[..]));
    assert!(!leftover.exists());
}

#[test]
fn a_ruined_snapshot_is_reported_as_damage() {
    let directory = scratch();
    let mut store = Sled::open(directory.path()).expect("the store opens");
    commit(&mut store, &[put("k", "1")]);
    drop(store);
    drop(Sled::open(directory.path()).expect("it opens again, and writes a snapshot"));
    let files = fs::read_dir(directory.path().join("sled")).expect("the folder is there").flatten();
    let snapshot = files.map(|file| file.path()).find(|path| path.to_string_lossy().contains("snap."));
    fs::write(snapshot.expect("there is a snapshot"), [0xAB; 100]).expect("the file is written");
    assert!(matches!(Sled::open(directory.path()), Err(StoreError::Damaged(_))));
}

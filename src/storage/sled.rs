//! The sled backend: the default store of an agent.
//!
//! sled 0.34.7 is an embedded, log-structured tree. Taken as it comes it does not keep the promise of [`Store`]; this
//! module adds what is missing, and every addition answers something that sled does:
//!
//! - **`flush` is not a sync.** It writes the log and calls `sync_file_range`, which neither commits the file's size
//!   nor empties the disk's cache. Each commit therefore ends with an `fdatasync` of sled's `db` file.
//! - **Long nodes leave the log.** A node of the tree that takes more than a quarter of a segment is written to a file
//!   of its own in `blobs/`, which sled never syncs. Entries are short here and segments long, so that no node gets
//!   there (see `SEGMENT_BYTES`), and every commit looks whether one did.
//! - **A half-written snapshot closes the store for ever.** A process that dies while it opens the store leaves a
//!   `snap.….generating` file, which the next opening takes for the newest snapshot and calls corrupt. Such files never
//!   took effect and are removed before sled looks.
//! - **Dropping it writes.** The last handle flushes what sled has buffered. After a clean commit that can only be a
//!   reorganisation of the tree, which changes no record. After a failure it could be half of a batch whose failure
//!   was already reported, so a store that failed keeps its handle for ever: the process is expected to exit.
//! - **Its background thread only logs its errors.** There is none here: `flush_every_ms(None)`. Space is still
//!   reclaimed, by the commits themselves: each page that sled replaces also moves one page out of a segment to be
//!   emptied.
//! - **A failed write can leave `flush` asleep.** The IO thread that writes the head of a batch records its error and
//!   wakes nobody. A small thread here looks for such errors and wakes the sleeper (see `waker.rs`).
//! - **It panics on some damage.** A panic on the calling thread is returned as an error; one on sled's IO threads
//!   leaves a commit waiting, which the service's watchdog has to notice.
//!
//! A flipped bit at the end of the log is not reported at all: sled goes back to the state before it. Finding that is
//! the task of the sums and commit numbers that the ledger keeps in the records.
//!
//! # Layout
//!
//! A sled batch covers one tree, and everything must be in one batch, so there is one tree with two kinds of entries:
//!
//! | sled key | sled value |
//! |---|---|
//! | `r` key | u16: number of chunks that follow; the first bytes of the record |
//! | `c` u16: length of the key, key, u16: number of the chunk | the next bytes of the record |
//!
//! The `r` entries alone, in sled's order, are the records in the order of their keys. The length before the key keeps
//! the chunks of a key apart from those of any other key, also of one that begins with it. Integers are big endian.

mod directory;
mod waker;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Record, Store, StoreError, Write};
use directory::{await_release, create_private, lock_directory, open_private, remove_unfinished_snapshots};
use waker::Waker;

/// The longest key, in bytes: the contract of [`Store`].
const KEY_BYTES: usize = 2048;
/// The longest record, in bytes. Far above what the agent writes; it bounds the number of chunks.
const RECORD_BYTES: usize = 1024 * 1024;
/// The longest value of one sled entry, in bytes; longer records are split.
const ENTRY_BYTES: usize = 4096;
/// How many bytes of a record fit beside the chunk count.
const FIRST_BYTES: usize = ENTRY_BYTES - size_of::<u16>();
/// The length of sled's log segments, in bytes. A node above a quarter of it becomes a blob. A leaf holds about 20
/// entries of at most 6 KiB; but an index holds about 320 keys, which are cut after the first byte that tells two
/// neighbours apart: 650 KiB, if keys of 2 KiB differ only near their ends. So a quarter has to be 1 MiB. With sled's
/// own 512 KiB a few hundred keys of 1 KiB are enough for a blob. The number is part of the files: another one cannot
/// open them.
const SEGMENT_BYTES: usize = 4 * 1024 * 1024;
/// How much memory sled may use for pages, in bytes. Records of a coordination service are few; this holds them all.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Free bytes below which nothing is written: a commit can start a new segment while others wait to be emptied.
const RESERVE_BYTES: u64 = 4 * SEGMENT_BYTES as u64;
/// How many bytes sled may write for each byte of a batch: the entry, the node it is merged into, pages moved.
const WRITE_AMPLIFICATION: u64 = 8;

const RECORD_TAG: u8 = b'r';
const CHUNK_TAG: u8 = b'c';

/// A store in a directory, by sled. One at a time per directory, over all processes; one thread at a time.
///
/// After an error other than [`StoreError::NoSpace`] every call fails, and nothing more is written, by no call and not
/// by dropping it. The directory stays locked until the process exits.
#[derive(Debug)]
pub struct Sled {
    db: ::sled::Db,
    /// A second handle to sled's `db` file, opened before sled wrote anything. fdatasync is per file, not per handle;
    /// and a failed write-back is reported once to each handle, so it is reported to this one whoever saw it first.
    data: File,
    files: PathBuf,
    stopped: AtomicBool,
    waker: Waker,
    /// Declared last, hence dropped last: the directory is free only when sled has let go of its files.
    _lock: File,
}

impl Sled {
    /// Opens the store in `directory`, which is created with mode 0700 if it is not there; sled's files are in its
    /// folder `sled`. Names and contents are on the disk when this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if any process, this one included, has it open; the other one is not disturbed.
    /// [`StoreError::NoSpace`] if there is no room to work in. [`StoreError::Damaged`] if sled cannot read its files.
    pub fn open(directory: &Path) -> Result<Sled, StoreError> {
        let files = directory.join("sled");
        let missing = files.ancestors().take_while(|path| !path.exists()).count();
        create_private(&files).map_err(failed("creating the data directory"))?;
        let lock = lock_directory(directory)?;
        let data = open_private(&files.join("db")).map_err(failed("opening the data file"))?;
        await_release(&data, directory)?;
        check_space(&data, &[])?;
        remove_unfinished_snapshots(&files).map_err(failed("removing unfinished snapshots"))?;

        let db = shielded(|| {
            ::sled::Config::new()
                .path(&files)
                .segment_size(SEGMENT_BYTES)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .use_compression(false)
                .open()
                .map_err(|error| from_sled("opening the store", error))
        })
        .unwrap_or_else(|panic| Err(StoreError::Damaged(format!("sled could not read its files: {panic}"))))?;

        let waker = Waker::start(db.clone()).map_err(failed("starting a thread"))?;
        let store = Sled { db, data, files, stopped: AtomicBool::new(false), waker, _lock: lock };
        store.attempt("opening the store", || {
            store.sync_files(missing).map_err(failed("syncing the store's files"))?;
            store.check_no_blob()
        })?;
        Ok(store)
    }

    /// Makes durable what opening wrote: sled does not sync its `conf`, and a new file's name is lost with the power
    /// unless its directory is synced. `missing` counts the directories, from `files` upwards, that were made.
    fn sync_files(&self, missing: usize) -> io::Result<()> {
        self.data.sync_all()?;
        File::open(self.files.join("conf"))?.sync_all()?;
        File::open(self.files.join("blobs"))?.sync_all()?;
        let files = fs::canonicalize(&self.files)?;
        // At least the folder, the data directory and the directory that the latter is in: whoever made that name
        // just before us need not have synced it.
        for directory in files.ancestors().take(missing.max(2) + 1) {
            match File::open(directory) {
                Ok(directory) => directory.sync_all()?,
                // A directory may be passed through and yet not be read. Then the whole filesystem is synced.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => rustix::fs::syncfs(&self.data)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Runs `work` unless the store has stopped, and stops it when the work fails or panics.
    fn attempt<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(failed(operation)("store stopped after an earlier failure"));
        }
        let outcome = shielded(work).unwrap_or_else(|panic| Err(failed(operation)(panic)));
        match outcome {
            Ok(_) | Err(StoreError::NoSpace(_)) => {}
            Err(StoreError::Locked(_) | StoreError::Damaged(_) | StoreError::Failed { .. }) => {
                self.stopped.store(true, Ordering::Relaxed);
            }
        }
        outcome
    }

    /// Fails if sled has put a node into a file of its own: that file is not synced, so the commit is not durable.
    fn check_no_blob(&self) -> Result<(), StoreError> {
        let mut blobs = fs::read_dir(self.files.join("blobs")).map_err(failed("listing the blobs"))?;
        match blobs.next() {
            None => Ok(()),
            Some(_) => Err(failed("commit")("a tree node became a blob, which sled does not sync")),
        }
    }

    fn entry(&self, key: &[u8]) -> Result<Option<::sled::IVec>, StoreError> {
        self.db.get(key).map_err(|error| from_sled("reading", error))
    }

    /// The number of chunks beside the first entry of a record; 0 if there is no such record.
    fn chunk_count(&self, key: &[u8]) -> Result<u16, StoreError> {
        match self.entry(&record_key(key))? {
            Some(entry) => Ok(split_entry(&entry)?.0),
            None => Ok(0),
        }
    }

    /// The whole record whose first entry is `entry`.
    fn assemble(&self, key: &[u8], entry: &[u8]) -> Result<Vec<u8>, StoreError> {
        let (chunks, first) = split_entry(entry)?;
        let mut record = Vec::with_capacity(first.len() + usize::from(chunks) * ENTRY_BYTES);
        record.extend_from_slice(first);
        for number in 0..chunks {
            let Some(chunk) = self.entry(&chunk_key(key, number))? else {
                return Err(StoreError::Damaged(format!("a record lacks chunk {number} of {chunks}")));
            };
            record.extend_from_slice(&chunk);
        }
        Ok(record)
    }

    /// The entries to write and to remove for a batch of records. A shorter record than before leaves no chunk
    /// behind: its removal is in the same batch.
    fn encode(&self, batch: &[Write]) -> Result<::sled::Batch, StoreError> {
        let mut entries = ::sled::Batch::default();
        for (key, record) in batch {
            let length = record.as_ref().map_or(0, Vec::len);
            if key.len() > KEY_BYTES || length > RECORD_BYTES {
                let cause = format!("a key of {} bytes with a record of {length} bytes is too long", key.len());
                return Err(failed("commit")(cause));
            }
            let chunks_before = self.chunk_count(key)?;
            let mut chunks_after: u16 = 0;
            if let Some(record) = record {
                let (first, rest) = record.split_at(record.len().min(FIRST_BYTES));
                for chunk in rest.chunks(ENTRY_BYTES) {
                    entries.insert(chunk_key(key, chunks_after), chunk);
                    chunks_after += 1;
                }
                entries.insert(record_key(key), [&chunks_after.to_be_bytes(), first].concat());
            } else {
                entries.remove(record_key(key));
            }
            for stale in chunks_after..chunks_before {
                entries.remove(chunk_key(key, stale));
            }
        }
        Ok(entries)
    }
}

impl Store for Sled {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.attempt("reading", || match self.entry(&record_key(key))? {
            Some(entry) => self.assemble(key, &entry).map(Some),
            None => Ok(None),
        })
    }

    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.attempt("commit", || {
            // The one place where a full disk is certain to have had no effect: nothing has been handed to sled.
            check_space(&self.data, batch)?;
            let entries = self.encode(batch)?;
            self.db.apply_batch(entries).map_err(|error| from_sled("writing a batch", error))?;
            self.db.flush().map_err(|error| from_sled("flushing a batch", error))?;
            self.data.sync_data().map_err(failed("fdatasync of a batch"))?;
            self.check_no_blob()
        })
    }

    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let from = after.map_or(Bound::Included(vec![RECORD_TAG]), |key| Bound::Excluded(record_key(key)));
        let to = Bound::Excluded(vec![RECORD_TAG + 1]);
        self.attempt("scanning", || {
            let mut records = Vec::new();
            for entry in self.db.range((from, to)).take(limit) {
                let (key, value) = entry.map_err(|error| from_sled("scanning", error))?;
                let key = key.get(1..).unwrap_or_default().to_vec();
                let record = self.assemble(&key, &value)?;
                records.push((key, record));
            }
            Ok(records)
        })
    }

    fn disk_bytes(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.files) else { return 0 };
        let files = entries.flatten().flat_map(|entry| entry.metadata()).filter(fs::Metadata::is_file);
        files.map(|file| file.len()).sum()
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        self.waker.stop();
        if self.stopped.load(Ordering::Relaxed) {
            // A handle that is never dropped keeps sled's flushing destructor from running.
            std::mem::forget(self.db.clone());
        }
    }
}

fn record_key(key: &[u8]) -> Vec<u8> {
    [&[RECORD_TAG], key].concat()
}

fn chunk_key(key: &[u8], number: u16) -> Vec<u8> {
    // Keys are at most KEY_BYTES long when written; a longer one is only ever looked up, and is not there.
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    [&[CHUNK_TAG], &length.to_be_bytes()[..], key, &number.to_be_bytes()].concat()
}

fn split_entry(entry: &[u8]) -> Result<(u16, &[u8]), StoreError> {
    match entry.split_first_chunk() {
        Some((chunks, first)) => Ok((u16::from_be_bytes(*chunks), first)),
        None => Err(StoreError::Damaged(format!("an entry of {} bytes", entry.len()))),
    }
}

/// Refuses while the disk is so full that a write may fail half-way. Quotas do not show here; where one is hit, the
/// write itself fails and the store stops.
fn check_space(data: &File, batch: &[Write]) -> Result<(), StoreError> {
    let bytes: usize = batch.iter().map(|(key, record)| key.len() + record.as_ref().map_or(0, Vec::len)).sum();
    let needed = RESERVE_BYTES + WRITE_AMPLIFICATION * bytes as u64;
    let disk = rustix::fs::fstatvfs(data).map_err(failed("asking for the free space"))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < needed {
        return Err(StoreError::NoSpace(format!("{free} bytes are free, {needed} are needed")));
    }
    Ok(())
}

/// The result of `work`, or the message of its panic.
fn shielded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("sled panicked: {}", text.unwrap_or("no message"))
    })
}

fn failed<E: ToString>(operation: &'static str) -> impl Fn(E) -> StoreError {
    move |cause| StoreError::Failed { operation, cause: cause.to_string() }
}

fn from_sled(operation: &'static str, error: ::sled::Error) -> StoreError {
    use ::sled::Error;
    match error {
        Error::Corruption { .. } => StoreError::Damaged(format!("{operation}: {error}")),
        // A file that ends before what its own headers announce.
        Error::Io(cause) if cause.kind() == ErrorKind::UnexpectedEof => {
            StoreError::Damaged(format!("{operation}: {cause}"))
        }
        Error::Io(cause) => failed(operation)(cause),
        Error::CollectionNotFound(_) | Error::Unsupported(_) | Error::ReportableBug(_) => failed(operation)(error),
    }
}

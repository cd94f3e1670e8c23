//! The data directory: made, locked, and cleared of what sled would trip over.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::{StoreError, failed};

/// How often a lock is tried that somebody else holds.
const RELEASE_ATTEMPTS: u32 = 400;
/// The pause between two looks at it.
const RELEASE_PAUSE: Duration = Duration::from_millis(5);

pub(super) fn create_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

pub(super) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Locks the data directory for as long as the file returned is open. sled locks its own file too, but says so only in
/// the text of an error, after it has created files.
pub(super) fn lock_directory(directory: &Path) -> Result<File, StoreError> {
    let lock = open_private(&directory.join("lock")).map_err(failed("opening the lock file"))?;
    await_lock(&lock, directory).map(|()| lock)
}

/// Waits until sled's own lock is free.
pub(super) fn await_release(data: &File, directory: &Path) -> Result<(), StoreError> {
    await_lock(data, directory)?;
    data.unlock().map_err(failed("unlocking the data file"))
}

/// Takes a lock that somebody may hold who is about to let go: an agent that is ending; sled's IO threads and deferred
/// destructors, which share the file of a store that was dropped; a process that was forked off while the file was
/// open, until it runs its program.
fn await_lock(file: &File, directory: &Path) -> Result<(), StoreError> {
    for _ in 0..RELEASE_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => thread::sleep(RELEASE_PAUSE),
            Err(TryLockError::Error(error)) => return Err(failed("locking the data directory")(error)),
        }
    }
    Err(StoreError::Locked(directory.display().to_string()))
}

/// Removes snapshots that were being written when their process died. sled renames them when they are complete, and
/// acts on them and removes the one before only after that.
pub(super) fn remove_unfinished_snapshots(files: &Path) -> io::Result<()> {
    for entry in fs::read_dir(files)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b"snap.") && name.ends_with(b".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

//! The thread that ends a wait of sled's that would never end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often it looks for errors of sled's IO threads.
const PERIOD: Duration = Duration::from_millis(100);

/// Wakes a commit whose write has failed.
///
/// `flush` waits on a condition variable for the log to be written. Of the two kinds of tasks that write it, the one
/// that writes the beginning of each batch only stores its error and notifies nobody, so the commit would wait for
/// ever; and fail-stop means that it must return. Any other caller that finds the error does notify, so this thread
/// asks for it. It keeps off `Db::flush`, which first takes a lock of sled's that is shared by the whole process.
#[derive(Debug)]
pub(super) struct Waker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Waker {
    pub(super) fn start(db: ::sled::Db) -> io::Result<Waker> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::Builder::new().name("store-waker".to_owned()).spawn(move || {
            while !told.load(Ordering::Acquire) {
                thread::park_timeout(PERIOD);
                if db.context.global_error().is_err() {
                    // With an error stored this waits for nothing and writes nothing: it notifies and returns it.
                    let _error = db.context.pagecache.log.make_stable(i64::MAX);
                }
            }
        })?;
        Ok(Waker { stop, thread: Some(thread) })
    }

    /// Ends the thread and with it its handle to the store.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It could only have panicked inside sled; there is nothing left to be done about that here.
            let _ended = thread.join();
        }
    }
}

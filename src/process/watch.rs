//! Waiting for many exits: one thread, one epoll.

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The ticket of the event that stops the thread; watches count from 1.
const STOP: u64 = 0;

/// How many exits one wait takes up.
const EVENTS_PER_WAIT: usize = 64;

/// Reports the exits of the processes that it is told to watch, by pidfd.
///
/// Each watch is reported at most once, also when the process had exited before it was watched. It keeps its pidfd
/// open until then, or until it is taken back, and no other descriptor: of a pidfd under two watches at once it holds
/// one duplicate. There is no limit but that of descriptors. Dropping it stops its thread and waits for its end;
/// exits that were not reported by then are not reported.
#[derive(Debug)]
pub struct ExitWatch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    epoll: Epoll,
    stop: EventFd,
    watches: Mutex<Watches>,
}

/// What is watched. A watch's *ticket* is what epoll gives back; it is never used again, so that an event taken up
/// before its watch was taken back cannot be mistaken for a later watch of the same key.
#[derive(Debug, Default)]
struct Watches {
    last_ticket: u64,
    tickets: BTreeMap<u64, u64>,
    by_ticket: BTreeMap<u64, (u64, Arc<OwnedFd>)>,
}

impl ExitWatch {
    /// Starts the thread. It calls `on_exit` with the key of each watch whose process has exited; that must neither
    /// block nor panic, and may use the watch.
    ///
    /// # Errors
    /// When there is no descriptor or thread left.
    pub fn start(on_exit: impl FnMut(u64) + Send + 'static) -> io::Result<ExitWatch> {
        let shared = Arc::new(Shared {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            stop: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            watches: Mutex::default(),
        });
        shared.epoll.add(&shared.stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("exit-watch".into()).spawn(move || theirs.run(on_exit))?;
        Ok(ExitWatch { shared, thread: Some(thread) })
    }

    /// Reports `key` when the process of `pidfd` exits, at once if it has.
    ///
    /// # Errors
    /// `AlreadyExists` when the key is watched; `EMFILE`, `ENOSPC` (`fs.epoll.max_user_watches`) or `ENOMEM` when there
    /// is no room: then nothing is watched, and nothing is known about the process. `BrokenPipe` when the thread has
    /// ended, because `on_exit` panicked.
    pub fn watch(&self, key: u64, pidfd: Arc<OwnedFd>) -> io::Result<()> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the thread that waits for exits has ended"));
        }
        // Held until the watch is in the tables: its event may come before `add` returns.
        let mut watches = self.shared.lock();
        if watches.tickets.contains_key(&key) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "this key is watched already"));
        }
        let ticket = watches.last_ticket + 1;
        let event = || EpollEvent::new(EpollFlags::EPOLLIN, ticket);
        let pidfd = match self.shared.epoll.add(&pidfd, event()) {
            Ok(()) => pidfd,
            // epoll takes each descriptor number once: this one is under another watch.
            Err(Errno::EEXIST) => {
                let duplicate = Arc::new(pidfd.try_clone()?);
                self.shared.epoll.add(&duplicate, event())?;
                duplicate
            }
            Err(e) => return Err(e.into()),
        };
        watches.last_ticket = ticket;
        watches.tickets.insert(key, ticket);
        watches.by_ticket.insert(ticket, (key, pidfd));
        Ok(())
    }

    /// Takes the watch of `key` back and lets go of its pidfd. True if there was one: then its exit has not been
    /// reported and will not be. False if there was none, or its exit is reported or just being reported.
    pub fn unwatch(&self, key: u64) -> bool {
        let mut watches = self.shared.lock();
        let Some(ticket) = watches.tickets.get(&key).copied() else { return false };
        self.shared.take(&mut watches, ticket).is_some()
    }

    /// How many watches there are.
    pub fn len(&self) -> usize {
        self.shared.lock().tickets.len()
    }

    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shared {
    fn run(&self, mut on_exit: impl FnMut(u64)) {
        let mut events = [EpollEvent::empty(); EVENTS_PER_WAIT];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                // What remains are errors about our own descriptor and buffer; `watch` reports the end of the thread.
                Err(e) => panic!("waiting for exits: {e}"),
            };
            for ticket in events.iter().take(count).map(EpollEvent::data) {
                if ticket == STOP {
                    return;
                }
                // A pidfd gives no other event than its process's exit. The lock is not held in the call.
                let key = self.take(&mut self.lock(), ticket);
                if let Some(key) = key {
                    on_exit(key);
                }
            }
        }
    }

    /// Removes a watch and gives its key, if it is still there.
    fn take(&self, watches: &mut Watches, ticket: u64) -> Option<u64> {
        let (key, pidfd) = watches.by_ticket.remove(&ticket)?;
        watches.tickets.remove(&key);
        // Closing would not do: a registration belongs to the open file, which others may hold, and would go on
        // reporting. The only error left is that it is not registered, and that is what is wanted.
        let _ = self.epoll.delete(&pidfd);
        Some(key)
    }

    /// No panic can leave the tables halfway: their methods allocate, and nothing else.
    fn lock(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ExitWatch {
    fn drop(&mut self) {
        // Fails only if the counter is full, and then the thread is awake.
        let _ = self.shared.stop.write(1);
        if let Some(thread) = self.thread.take()
            // Dropped by `on_exit` itself, it ends after this call.
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic in `on_exit` was printed by its own thread.
            let _ = thread.join();
        }
    }
}

//! The agent on a real system: real sockets, files, processes.

mod agents;
mod process;
mod readme;
mod storage;

//! PaxosKV
#[cfg(feature = "agent")]
pub mod agent;
pub mod codec;
#[cfg(feature = "agent")]
pub mod config;
pub mod kv;
pub mod limits;
pub mod node;
pub mod paxos;
#[cfg(feature = "agent")]
pub mod process;
#[cfg(feature = "agent")]
pub mod server;
pub mod storage;
#[cfg(feature = "agent")]
pub mod transport;

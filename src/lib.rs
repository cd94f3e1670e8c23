//! PaxosKV: a coordination agent for every Linux host.
//!
//! Each host runs one agent. It keeps its acceptor's state in an embedded store, runs Paxos with the other hosts'
//! agents over TCP, and serves the host's applications on a Unix socket, where the kernel says which process is
//! calling. `put` is put-if-absent: everyone gets the value that the cluster chose. A key can be bound to a process:
//! when that process exits, the cluster forgets the key.
//!
//! # Layers
//!
//! An import only points down; `tests/tidy.rs` reads the sources and sees to it. What is below the line is arithmetic:
//! no IO, clock, chance, lock or thread. It is all that `cargo check --no-default-features --lib` builds.
//!
//! ```text
//! main                                 arguments, exit statuses
//! cli · dev                            the command; three agents to try out
//! server · client                      the Unix socket, both ends
//! agent                                the loop: carries out effects, the only reader of clocks
//! transport · process · storage/*      leaves: TCP peers, local processes, embedded stores
//! storage (trait, acceptor, ledger)    the only door through which a promise leaves
//! config                               one checked file
//! ------------------------------------ below: pure
//! codec · node                         bytes and types; inputs to effects
//! kv                                   entries, changes, bindings: what users mean
//! paxos                                ballots, quorums, acceptor, proposer: the papers
//! limits                               every bound, with its unit in its name
//! ```
//!
//! # The life of a put
//!
//! 1. The command or library sends a frame ([`codec::client`]). The server's thread knows from the kernel who
//!    connected ([`process`]), checks the request, and asks the agent's loop.
//! 2. The loop stamps the entry with holder and time and hands it to the [`node`]. If a put is expected to find the key
//!    set, a quorum read answers it. Otherwise it waits for the register's next round, together with whatever else
//!    waits for that register.
//! 3. The round draws a ballot above every counter seen and asks all voters to promise. Its own acceptor is one of
//!    them, on the store's thread.
//! 4. On a quorum of promises the operations are applied to the value with the highest ballot ([`kv::change`]). Absent,
//!    the put creates an entry whose token is the ballot; present, the put is answered with what is there.
//! 5. If that changes nothing and a quorum reported that very ballot, it is told at once. Otherwise the voters are
//!    asked to accept. Each writes its record in the next batch, syncs, and only then replies ([`storage::acceptor`]).
//! 6. A quorum of acknowledgements: chosen. The callers are answered. A round that lost to another tries again above
//!    it, after a pause drawn at random.
//!
//! # The life of a dead pid
//!
//! 1. A put names a process, held by its pidfd from the moment it is looked at. The node claims the register for it.
//! 2. The kernel makes the pidfd readable; the thread that waits for exits tells the loop.
//! 3. For each register that the process has a claim on, the node owes an expiry: a round that ends whatever entry is
//!    bound to that process, through the accept phase in any case, so that a put of it that reached one voter only can
//!    no longer be completed by anybody.
//! 4. The tombstone is chosen: every agent answers that the key is not there.
//!
//! Nothing depends on having seen the event. A voter that accepts a live entry tells the agent whose process it is
//! bound to, unless that one proposed it; at every connect it tells all of them; so does the own store at the start. An
//! agent that hears of an entry whose process is gone expires it, whenever it hears of it.
//!
//! # Invariants, by name
//!
//! - **P2c**, **one ballot, one value**, **promises are kept**: see [`paxos`].
//! - **nothing before it is durable**: no accepted value, and no ballot above the durable bound, is shown to anyone
//!   before it is on the disk. [`storage::acceptor::Staged`] has no way out but through a commit.
//! - **one entry a round**: put, release, put in one round would give two holders one token ([`kv::change`]).
//! - **one life a request**: a put that may already have created an entry never creates a second
//!   ([`kv::change::MayCreate`]).
//! - **answering is not settling**: what ends an entry goes through an accept phase ([`kv::change`]).
//! - **only the pidfd tells death**: not `kill(0)`, not `/proc`, not state Z ([`process`]).
//!
//! # What is not here yet
//!
//! Sessions of nodes (the lease counts as valid, the incarnation is 1), bindings to nodes and other keys, watch and
//! lock, forgetting of tombstones, certificates, changes of the membership. Records, messages and handshakes already
//! have their room.

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "agent")]
pub mod cli;
#[cfg(feature = "agent")]
pub mod client;
pub mod codec;
#[cfg(feature = "agent")]
pub mod config;
#[cfg(feature = "agent")]
pub mod dev;
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

/// The README's examples compile.
#[cfg(all(doctest, feature = "agent"))]
#[doc = include_str!("../README.md")]
pub struct Readme;

//! Every bound of the agent, in one place, with its unit in its name.

/// The longest key, in bytes of its deterministic CBOR encoding.
pub const KEY_BYTES: usize = 1024;
/// The longest bucket name, in bytes of UTF-8.
pub const BUCKET_BYTES: usize = 255;
/// The longest value, in bytes of its CBOR encoding.
pub const VALUE_BYTES: usize = 64 * 1024;
/// The deepest nesting of arrays, maps and tags in a key or value.
pub const NESTING_LEVELS: usize = 64;
/// The longest frame between an application and its agent, in bytes after the length prefix.
pub const CLIENT_FRAME_BYTES: usize = 256 * 1024;
/// The longest frame between agents, in bytes after the length prefix.
pub const PEER_FRAME_BYTES: usize = 4 * 1024 * 1024;
/// A peer frame is closed once its messages have this many bytes, so that one more always fits.
pub const PEER_FRAME_FILL_BYTES: usize = 512 * 1024;
/// The most messages in one peer frame.
pub const PEER_FRAME_MESSAGES: usize = 4096;
/// The longest stored entry, in bytes: value, holder and bindings with their header.
pub const ENTRY_BYTES: usize = VALUE_BYTES + 8 * 1024;
/// The most bindings of one entry.
pub const BINDINGS_PER_ENTRY: usize = 16;
/// The most voters of a cluster.
pub const VOTERS: usize = 9;

/// How far above what a majority named a counter may be before it is refused as nonsense.
pub const COUNTER_LEAP: u64 = 1 << 40;
/// Counters from here on are warned about.
pub const COUNTER_WARN: u64 = 1 << 46;
/// Counters from here on are refused: the agent stops drawing ballots.
pub const COUNTER_STOP: u64 = 1 << 47;
/// How far the durable bound is raised above what is needed, in ballot counters.
pub const BOUND_STEP: u64 = 1 << 20;

/// The most volatile promises that an acceptor keeps; then the older half becomes the floor.
pub const PROMISES: usize = 1 << 17;
/// The most operations that one agent has under way for its applications.
pub const OPERATIONS: usize = 16 * 1024;
/// The most operations that one round answers.
pub const OPERATIONS_PER_ROUND: usize = 1024;
/// The most puts whose outcome is unknown that an agent remembers. Those bound to a process are never forgotten:
/// while that many are unsettled, further bound puts are refused.
pub const UNSETTLED_PUTS: usize = 16 * 1024;
/// The most registers that the agent remembers as holding a live entry, as a hint for reading before writing.
pub const LIVE_HINTS: usize = 64 * 1024;
/// The most listings that an agent has under way at once; the others wait their turn.
pub const LISTINGS: usize = 8;
/// The most entries in one page of a listing.
pub const PAGE_KEYS: usize = 512;
/// The most bytes of keys in one page of a listing.
pub const PAGE_BYTES: usize = 128 * 1024;
/// The most bound entries in one message to the agent that they are bound to.
pub const BOUND_PAGE_ENTRIES: usize = 512;
/// The most expiries that an agent has under way at once; the others wait their turn.
pub const EXPIRIES_IN_FLIGHT: usize = 1024;

/// How long one phase of a round or read waits for a quorum, in microseconds.
pub const PHASE_TIMEOUT_US: u64 = 2_000_000;
/// How long an operation may take when its caller names no deadline, in microseconds; one that is to wait for a quorum
/// waits for as long as a deadline may be.
pub const OPERATION_TIMEOUT_US: u64 = 10_000_000;
/// The longest deadline that a caller may name, in milliseconds (one day).
pub const DEADLINE_MAX_MS: u64 = 24 * 3600 * 1000;
/// The longest pause before a round is tried again, in microseconds.
pub const RETRY_PAUSE_MAX_US: u64 = 100_000;
/// The shortest such pause's upper end, in microseconds; it doubles with each attempt.
pub const RETRY_PAUSE_MIN_US: u64 = 1_000;
/// How long a round that must know the time waits for the clocks of more voters than a quorum, in microseconds.
pub const CLOCKS_WAIT_US: u64 = 100_000;
/// How long after its first accept phase a retried put that finds nothing may still create, in microseconds.
pub const RETRY_CREATES_US: u64 = 30_000_000;
/// How long a put that nobody asks about again stays remembered, in microseconds.
pub const UNSETTLED_KEEP_US: u64 = 600_000_000;
/// How often the live entries of the own store are examined again, in microseconds.
pub const SWEEP_US: u64 = 30_000_000;
/// How much later each further voter acts on an entry whose time is over, in microseconds.
pub const SWEEP_RANK_US: u64 = 1_000_000;

/// How often an agent tells every peer that it is there, in microseconds.
pub const HEARTBEAT_US: u64 = 500_000;
/// How long a peer may be silent before its connection counts as lost, in microseconds.
pub const PEER_SILENCE_US: u64 = 3_000_000;

/// How long a node's lease runs from the sending of an acknowledged heartbeat, in milliseconds. All agents of a
/// cluster must agree on it.
pub const LEASE_MS: u64 = 6_000;
/// How long a node must have been silent before it may be declared gone, in milliseconds. All must agree on it.
pub const NODE_TIMEOUT_MS: u64 = 8_000;
/// How far apart two clocks may run, in percent. All must agree on it.
pub const DRIFT_PERCENT: u64 = 2;

/// How long a peer may take for its part of a handshake, in milliseconds.
pub const HANDSHAKE_MS: u64 = 5_000;
/// How long a frame may take from its first byte to its last, in milliseconds.
pub const FRAME_MS: u64 = 10_000;
/// The first pause before a lost connection to a peer is tried again, in milliseconds; it doubles.
pub const RECONNECT_MIN_MS: u64 = 20;
/// The longest such pause, in milliseconds.
pub const RECONNECT_MAX_MS: u64 = 1_000;
/// The most bytes that wait to be sent on one peer connection. Beyond that it is closed: the peer does not read.
pub const OUTBOX_BYTES: usize = 32 * 1024 * 1024;
/// The most incoming peer connections that have not finished their handshake.
pub const HANDSHAKES: usize = 64;
/// The most connections of applications.
pub const CLIENTS: usize = 4096;
/// The most file descriptors that one connection may have passed and not yet used.
pub const PASSED_FDS: usize = 16;
/// The most inputs that wait for the agent's loop.
pub const INPUTS: usize = 8 * 1024;
/// The most jobs that wait for the thread that owns the store.
pub const JOBS: usize = 64 * 1024;
/// The most jobs that share one batch and one sync.
pub const JOBS_PER_BATCH: usize = 1024;
/// How long a stopping agent lets operations finish, in milliseconds.
pub const DRAIN_MS: u64 = 2_000;

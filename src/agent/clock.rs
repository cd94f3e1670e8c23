//! The only place where clocks are read.

use crate::node::Now;
use nix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock, in milliseconds since 1970; 0 before.
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// `CLOCK_BOOTTIME`, which goes on while the machine is suspended (`clock_gettime(2)`), in microseconds.
pub(super) fn mono_us() -> u64 {
    // Linux has had this clock since 2.6.39; a kernel without it would stop time, and with it every operation.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |t| t.tv_sec() as u64 * 1_000_000 + t.tv_nsec() as u64 / 1000)
}

pub(super) fn now() -> Now {
    Now { mono_us: mono_us(), wall_ms: wall_ms() }
}

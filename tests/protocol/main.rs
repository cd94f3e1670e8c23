//! The protocol, tested in one thread: whole clusters of real nodes over real acceptors in a simulated world.
//!
//! - [`cluster`], [`host`], [`world`], [`disk`]: the world. Time, network, disks, processes and clocks are values; a
//!   seed fixes everything that happens.
//! - [`workload`]: what happens to a cluster. It does not know what is right.
//! - [`observer`]: what is right. It does not know what was meant to happen.
//! - [`simulation`]: clusters from seeds. A failure prints its seed; `PAXOSKV_SEED` and `PAXOSKV_RUNS` choose others.
//! - [`scenarios`]: what once went wrong, or could, written out message by message with [`script`].
//! - [`attacks`]: interleavings that once broke a rule, on a [`trio`] of nodes with disks that can be full, and a random
//!   walk over the same.
//! - [`controls`]: clusters that are broken on purpose, and the checks that must object.

mod attacks;
mod cluster;
mod controls;
mod disk;
mod host;
mod observer;
mod rng;
mod sabotage;
mod scenarios;
mod script;
mod simulation;
mod trio;
mod workload;
mod world;

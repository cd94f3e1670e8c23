//! Scenarios, written out message by message.

mod acceptors;
mod bindings;
mod listings;
mod puts;
mod quorums;
mod reads;
mod releases;
mod times;

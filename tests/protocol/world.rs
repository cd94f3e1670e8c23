//! What the hosts of a simulated cluster share: time, the network between them, and who is watching.

use crate::observer::Observer;
use crate::rng::Rng;
use crate::sabotage::Sabotage;
use paxoskv::kv::ProcessId;
use paxoskv::node::Answer;
use std::collections::{BTreeMap, BTreeSet};

/// When the simulation begins, by a right clock, in milliseconds since 1970.
pub const WALL_START_MS: u64 = 1_700_000_000_000;

/// A frame under way. The network knows connections, but unlike TCP it may lose, repeat and reorder what goes over
/// one, and deliver it when the connection is gone.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from: usize,
    pub to: usize,
    pub connection: u64,
    pub bytes: Vec<u8>,
}

/// What is going to happen. Events that name a life happen to nobody if that life is over.
#[derive(Clone, Debug)]
pub enum Event {
    Packet(Packet),
    /// The thread that owns the store gets on: stages what is queued, or commits what is staged.
    Store {
        host: usize,
        life: u64,
    },
    /// What was committed reaches the loop.
    Told {
        host: usize,
        life: u64,
    },
    /// A timer of the loop is due.
    Wake {
        host: usize,
        life: u64,
    },
    /// The kernel's word that a process has exited reaches the loop.
    Exited {
        host: usize,
        life: u64,
        process: ProcessId,
    },
    Dial {
        host: usize,
        life: u64,
        to: usize,
    },
    /// One end sees that its connection is gone.
    Broken {
        host: usize,
        life: u64,
        connection: u64,
    },
    Restart {
        host: usize,
    },
}

/// How the network and the disks behave.
#[derive(Clone, Debug)]
pub struct Weather {
    pub loss_permille: u64,
    pub repeat_permille: u64,
    /// How often a frame takes far longer than others.
    pub straggle_permille: u64,
    pub slow_disk_permille: u64,
    /// The longest time that a frame takes which is not late.
    pub delay_us: u64,
    /// Frames from the first to the second go nowhere.
    pub cut: BTreeSet<(usize, usize)>,
}

impl Weather {
    /// Nothing is lost, and everything arrives soon.
    pub fn fine() -> Weather {
        Weather {
            loss_permille: 0,
            repeat_permille: 0,
            straggle_permille: 0,
            slow_disk_permille: 0,
            delay_us: 1_500,
            cut: BTreeSet::new(),
        }
    }
}

pub struct World {
    pub now_us: u64,
    pub rng: Rng,
    pub weather: Weather,
    pub observer: Observer,
    pub sabotage: Sabotage,
    /// In a script nothing is delivered by itself: the frames, of one message each, wait here.
    pub held: Option<Vec<Packet>>,
    /// Answers to calls, for whoever made them.
    pub answers: Vec<(u64, Answer)>,
    /// What happened, by kind.
    pub counts: BTreeMap<&'static str, u64>,
    agenda: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    connections: u64,
}

impl World {
    pub fn new(seed: u64, observer: Observer, sabotage: Sabotage, scripted: bool) -> World {
        World {
            now_us: 1_000_000,
            rng: Rng::new(seed),
            weather: Weather::fine(),
            observer,
            sabotage,
            held: scripted.then(Vec::new),
            answers: Vec::new(),
            counts: BTreeMap::new(),
            agenda: BTreeMap::new(),
            scheduled: 0,
            connections: 0,
        }
    }

    pub fn is_scripted(&self) -> bool {
        self.held.is_some()
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn schedule(&mut self, after_us: u64, event: Event) {
        self.scheduled += 1;
        self.agenda.insert((self.now_us + after_us, self.scheduled), event);
    }

    /// When the next event is due.
    pub fn next_due(&self) -> Option<u64> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next event, and sets the time to when it happens.
    pub fn next_event(&mut self) -> Option<Event> {
        let ((at, _), event) = self.agenda.pop_first()?;
        self.now_us = self.now_us.max(at);
        Some(event)
    }

    /// A connection's name, never used twice.
    pub fn draw_connection(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    pub fn is_open(&self, a: usize, b: usize) -> bool {
        !self.weather.cut.contains(&(a, b)) && !self.weather.cut.contains(&(b, a))
    }

    pub fn send(&mut self, packet: Packet) {
        if let Some(held) = &mut self.held {
            return held.push(packet);
        }
        self.count("frames");
        if self.weather.cut.contains(&(packet.from, packet.to)) {
            return self.count("frames cut off");
        }
        if self.rng.permille(self.weather.loss_permille) {
            return self.count("frames lost");
        }
        if self.rng.permille(self.weather.repeat_permille) {
            self.count("frames repeated");
            let after_us = self.rng.spread_us(100, 3_000_000);
            self.schedule(after_us, Event::Packet(packet.clone()));
        }
        let after_us = if self.rng.permille(self.weather.straggle_permille) {
            self.count("frames late");
            self.rng.spread_us(5_000, 8_000_000)
        } else {
            self.rng.spread_us(50, self.weather.delay_us)
        };
        self.schedule(after_us, Event::Packet(packet));
    }
}

//! One of the three: a node and its acceptor, on a disk that can be full.

use paxoskv::kv::ProcessId;
use paxoskv::node::{Input, Node, NodeConfig, Stored};
use paxoskv::paxos::{Membership, NodeId, Voter};
use paxoskv::storage::acceptor::{DurableAcceptor, Formed, Job, Opened};
use paxoskv::storage::ledger::Birth;
use paxoskv::storage::memory::Memory;
use paxoskv::storage::{Record, Store, StoreError, Write};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The boot that every host is in.
pub const BOOT: [u8; 16] = [3; 16];

pub struct Agent {
    id: u16,
    pub node: Node,
    pub acceptor: DurableAcceptor<Disk>,
    pub watched: BTreeSet<ProcessId>,
    /// Shared with the disk, which the acceptor owns.
    full: Arc<AtomicBool>,
    /// A raise of the bound that found no space.
    owed_raise: Option<u64>,
}

impl Agent {
    /// An agent of a formed cluster, that has nothing on its disk yet.
    pub fn new(id: u16, seed: u64) -> Agent {
        let full = Arc::new(AtomicBool::new(false));
        let Opened { mut acceptor, .. } = open(Memory::new(), &full);
        let formed =
            Formed { cluster: "trio".into(), cluster_id: [9; 16], membership: membership(), stores: Vec::new() };
        run(&mut acceptor, Job::Form(Box::new(formed))).expect("an empty disk is not full");
        let node = node(id, &acceptor, 0, seed);
        Agent { id, node, acceptor, watched: BTreeSet::new(), full, owed_raise: None }
    }

    /// Begins another life on what the disk holds, which must not be full. What upkeep is to know of it.
    pub fn restart(&mut self, seed: u64) -> Vec<Stored> {
        let opened = open(self.acceptor.store().image.clone(), &self.full);
        self.node = node(self.id, &opened.acceptor, opened.earlier_bound, seed);
        self.acceptor = opened.acceptor;
        self.watched.clear();
        self.owed_raise = None;
        opened.stored
    }

    /// Raises the bound, now or when there is space.
    pub fn raise(&mut self, counter: u64) -> Input {
        match run(&mut self.acceptor, Job::Raise(counter)) {
            Ok(()) => Input::Raised(self.acceptor.bound()),
            Err(StoreError::NoSpace(_)) => {
                self.owed_raise = Some(counter);
                self.began_anew()
            }
            Err(e) => panic!("memory can be written: {e}"),
        }
    }

    /// After a batch that found no space the acceptor counts as promised up to its bound. The stamps must lead the
    /// others there: whoever has its quorum before this voter answers would be refused by it for ever.
    pub fn began_anew(&self) -> Input {
        Input::Counter(self.acceptor.bound())
    }

    pub fn fill_disk(&mut self, full: bool) -> Option<Input> {
        self.full.store(full, Ordering::Relaxed);
        let owed = self.owed_raise.take_if(|_| !full)?;
        Some(self.raise(owed))
    }
}

fn membership() -> Membership {
    Membership::new(1, (1..=3).map(|id| Voter { id: NodeId(id), name: format!("n{id}") }).collect())
}

fn open(image: Memory, full: &Arc<AtomicBool>) -> Opened<Disk> {
    let birth = Birth { store_id: [1; 16], life_id: [2; 16], boot_id: BOOT };
    DurableAcceptor::open(Disk { image, full: full.clone() }, &birth).expect("the image is sound")
}

fn run(acceptor: &mut DurableAcceptor<Disk>, job: Job) -> Result<(), StoreError> {
    let staged = acceptor.stage(&[job], 0)?;
    acceptor.commit(staged).map(|_| ())
}

fn node(id: u16, acceptor: &DurableAcceptor<Disk>, counter: u64, seed: u64) -> Node {
    Node::new(NodeConfig {
        me: NodeId(id),
        membership: membership(),
        boot_id: BOOT,
        life: acceptor.life().number,
        counter,
        bound: acceptor.bound(),
        seed: seed.wrapping_add(u64::from(id)),
    })
}

/// A store that can be full.
pub struct Disk {
    image: Memory,
    full: Arc<AtomicBool>,
}

impl Store for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.image.get(key)
    }
    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        if self.full.load(Ordering::Relaxed) {
            return Err(StoreError::NoSpace("full".into()));
        }
        self.image.commit(batch)
    }
    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.image.scan(after, limit)
    }
    fn disk_bytes(&self) -> u64 {
        0
    }
}

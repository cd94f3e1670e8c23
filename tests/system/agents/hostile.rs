//! Bad input at both ports: a clear answer or a closed connection, and the others are served all the while.

mod callers;
mod greedy;
mod peers;

use super::*;

/// A cluster with a good client, which is served in between.
struct Target {
    cluster: Cluster,
    good: Caller,
    /// How long each of its puts and gets took.
    served: Vec<Duration>,
}

impl Target {
    fn new() -> Target {
        let cluster = Cluster::start(3);
        let good = cluster.agents[0].connect();
        Target { cluster, good, served: Vec::new() }
    }

    fn agent(&self) -> &Agent {
        &self.cluster.agents[0]
    }

    /// One put and one get, by a quorum, however long they take.
    fn serves(&mut self) {
        let at = Instant::now();
        let key = format!("good {}", self.served.len());
        let patient =
            |request| Request { no_quorum: Some("retry".into()), deadline: Some(NEVER.as_millis() as u64), ..request };
        let set = self.good.set(patient(put(&key, "v")));
        assert_eq!(self.good.ask(patient(get(&key))).token, set.token);
        self.served.push(at.elapsed());
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for agent in &mut self.cluster.agents {
            assert!(agent.is_running(), "{} has ended", agent.name);
            let log = agent.log();
            assert!(!log.contains("panicked"), "{log}");
        }
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        measured(&format!("put and get of a good caller in {test}"), std::mem::take(&mut self.served));
    }
}

/// What is no frame at all, whoever listens.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let huge = |head: u8| [&[head], &[0xff; 8][..], &[0; 100]].concat();
    vec![
        ("an empty frame", caller::frame(b"")),
        ("the longest length", vec![0xff; 4]),
        ("the longest length, and some bytes", vec![0xff; 4096]),
        ("half a length", vec![0, 0]),
        ("half a frame", [&[0, 0, 0, 100][..], &[0xa1; 50]].concat()),
        ("no CBOR", caller::frame(&[0xff; 100])),
        ("arrays 10,000 deep", caller::frame(&[0x81; 10_000])),
        ("arrays without a length 10,000 deep", caller::frame(&[0x9f; 10_000])),
        ("maps 10,000 deep", caller::frame(&[0xa1; 10_000])),
        ("tags 10,000 deep", caller::frame(&[0xc1; 10_000])),
        ("an array of 2^64 elements", caller::frame(&huge(0x9b))),
        ("a map of 2^64 pairs", caller::frame(&huge(0xbb))),
        ("a byte string of 2^64 bytes", caller::frame(&huge(0x5b))),
        ("a text of 2^64 bytes", caller::frame(&huge(0x7b))),
        ("something else than a map", caller::frame(&text("hello"))),
        ("text that is not UTF-8", caller::frame(&[0xa1, 0x62, b'i', b'd', 0x62, 0xff, 0xfe])),
    ]
}

/// Changes some bytes of an encoding, or its length.
fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..1 + dice.below(4) {
        let at = dice.below(bytes.len().max(1));
        match dice.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), dice.next() as u8),
            2 => bytes.extend(dice.bytes(8)),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = dice.next() as u8;
                }
            }
        }
    }
}

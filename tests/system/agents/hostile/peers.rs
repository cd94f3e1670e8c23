//! At the port of the peers, which only other agents should reach: from whoever connects, and from one that says it is
//! a peer and is let in.

use super::*;
use paxoskv::codec::peer::{decode_welcome, encode_frame, encode_hello, pack_reply, pack_request};
use paxoskv::config::Config;
use paxoskv::kv::peer::{Hello, Life, PeerReply, PeerRequest, Position, Role, Stamp, StoreOf, Welcome};
use paxoskv::limits::PEER_FRAME_BYTES;
use paxoskv::paxos::NodeId;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

fn dial(agent: &Agent) -> TcpStream {
    let stream = TcpStream::connect(agent.address).unwrap();
    stream.set_read_timeout(Some(NEVER)).unwrap();
    stream
}

/// Everything that the agent says until it closes the connection.
fn said_to(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    // The agent may close the connection before it has read everything.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(e) if e.kind() != std::io::ErrorKind::ConnectionReset => panic!("the agent closes the connection: {e}"),
        _ => said,
    }
}

/// What agent b would say to agent a, which does not ask for more than loopback.
fn hello_of_b(cluster: &Cluster) -> Hello {
    let config = Config::load(&cluster.agents[1].config).unwrap();
    let store =
        |agent: &Agent| -> [u8; 16] { u128::from_str_radix(&agent.status("store id"), 16).unwrap().to_be_bytes() };
    let stores = cluster.agents.iter().zip(1..);
    let number = cluster.agents[1].status("life").split(' ').next().unwrap().parse().unwrap();
    Hello {
        version_min: 1,
        version_max: 1,
        features: 0,
        cluster_id: config.cluster_id(),
        cluster_name: config.cluster.clone(),
        epoch: config.membership.epoch,
        membership: config.membership_digest(),
        node: config.me,
        name: config.node.clone(),
        store: store(&cluster.agents[1]),
        life: Life { number, id: [1; 16], start_commit: 1, boot_id: [1; 16] },
        commit: 1,
        counter: 0,
        role: Role::Voter,
        nonce: [7; 16],
        formed: stores.map(|(agent, id)| StoreOf { node: NodeId(id), store: store(agent) }).collect(),
        known: Vec::new(),
    }
}

fn welcome(stream: &mut TcpStream, hello: &Hello) -> Welcome {
    stream.write_all(&caller::frame(&encode_hello(hello))).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes).unwrap();
    decode_welcome(&bytes).unwrap()
}

#[test]
fn what_is_no_handshake_ends_the_connection_without_a_word() {
    let mut target = Target::new();
    let mut dice = Dice::new("hostile peers");
    let hello = encode_hello(&hello_of_b(&target.cluster));
    let mut cases = malformed();
    cases.push(("bytes after the handshake", caller::frame(&[&hello[..], &[0]].concat())));
    cases.push(("too long a handshake", caller::frame(&vec![0x60; 64 * 1024 + 1])));
    cases.push(("half a handshake", caller::frame(&hello)[..hello.len() / 2].to_vec()));
    cases.extend((0..rounds(200) / 4).map(|_| ("random bytes", dice.bytes(300))));
    for (case, bytes) in cases {
        assert_eq!(said_to(dial(target.agent()), &bytes), b"", "{case}");
        target.serves();
    }
    // Bytes that are a handshake all the same, with something else in it, are answered as one.
    for _ in 0..rounds(200) {
        let mut mutated = hello.clone();
        mutate(&mut dice, &mut mutated);
        said_to(dial(target.agent()), &caller::frame(&mutated));
    }
    target.cluster.await_all_up();
    target.serves();
}

#[test]
fn a_handshake_that_does_not_fit_is_refused_with_the_reason() {
    let mut target = Target::new();
    let right = hello_of_b(&target.cluster);
    let mut life = right.life;
    life.number = 0;
    let no_store = StoreOf { node: NodeId(1), store: [9; 16] };
    let cases = [
        ("protocol versions", Hello { version_min: 2, version_max: 9, ..right.clone() }),
        ("another cluster", Hello { cluster_id: [9; 16], cluster_name: "\u{1b}[31m".repeat(500), ..right.clone() }),
        ("another membership", Hello { epoch: 2, ..right.clone() }),
        ("another membership", Hello { membership: [9; 16], ..right.clone() }),
        ("", Hello { name: "zzz".into(), ..right.clone() }),
        ("", Hello { node: NodeId(77), ..right.clone() }),
        ("this agent itself", Hello { node: NodeId(1), name: "a".into(), ..right.clone() }),
        ("a copy of this agent's store", Hello { store: right.formed[0].store, ..right.clone() }),
        ("one of them is a copy", Hello { store: right.formed[2].store, ..right.clone() }),
        ("it was lost or exchanged", Hello { store: [9; 16], ..right.clone() }),
        ("is over", Hello { life, ..right.clone() }),
        ("with other stores", Hello { formed: vec![no_store; 3], ..right.clone() }),
    ];
    for (words, hello) in cases {
        let mut stream = dial(target.agent());
        let Welcome::Refused(why) = welcome(&mut stream, &hello) else { panic!("{words}: let in") };
        assert!(why.contains(words) && why.len() < 500 && !why.contains('\u{1b}'), "{words}: {why}");
        println!("refused: {why}");
        assert_eq!(said_to(stream, b""), b"");
        target.serves();
    }
}

#[test]
fn whoever_is_let_in_and_speaks_nonsense_is_cut_off_and_the_real_peer_comes_back() {
    let mut target = Target::new();
    let mut dice = Dice::new("hostile peers");
    let hello = hello_of_b(&target.cluster);
    let position = Position { life: hello.life.number, commit: 1 };
    let stamp = Stamp { epoch: 1, sender: NodeId(2), counter: 0, position };
    let heartbeat = PeerRequest::Heartbeat { sequence: 1, incarnation: 1, known: Vec::new() };
    let asks = [pack_request(1, &heartbeat)];
    let answers = [pack_reply(1, &PeerReply::Heartbeat { sequence: 1, acknowledged: true })];
    let mut cases = malformed();
    let framed = |stamp: &Stamp| caller::frame(&encode_frame(stamp, &asks));
    cases.push(("another sender", framed(&Stamp { sender: NodeId(3), ..stamp })));
    cases.push(("another epoch", framed(&Stamp { epoch: 9, ..stamp })));
    cases.push(("a counter beyond belief", framed(&Stamp { counter: 1 << 47, ..stamp })));
    cases.push(("an answer to no question", caller::frame(&encode_frame(&stamp, &answers))));
    cases.push(("too long a frame", [&(PEER_FRAME_BYTES as u32 + 1).to_be_bytes()[..], &[0; 100]].concat()));
    cases.push(("bytes after the frame", caller::frame(&[encode_frame(&stamp, &asks), vec![0]].concat())));
    for kind in [1, 2, 3, 4, 5, 6, 7, 16, 127, 128, 129, 135, 200, 255] {
        let body = dice.bytes(40);
        // [1, 2, 0, life, 1, [[kind, 5, body]]]
        let head = [0x86, 0x01, 0x02, 0x00, position.life as u8, 0x01, 0x81, 0x83, 0x18, kind, 0x05, 0x58, 40];
        cases.push(("a message with a random body", caller::frame(&[&head[..], &body].concat())));
    }
    for _ in 0..rounds(200) {
        let mut mutated = encode_frame(&stamp, &asks);
        mutate(&mut dice, &mut mutated);
        cases.push(("a mutated frame", caller::frame(&mutated)));
    }
    let count = cases.len();
    for (case, bytes) in cases {
        let mut stream = dial(target.agent());
        match welcome(&mut stream, &hello) {
            Welcome::Accepted(theirs) => assert_eq!((theirs.node, theirs.nonce), (NodeId(1), hello.nonce)),
            Welcome::Refused(why) => panic!("{case}: {why}"),
        }
        said_to(stream, &bytes);
        target.serves();
    }
    target.cluster.await_all_up();
    println!("measured: {count} connections of a false peer, each ended; the real one is back");
}

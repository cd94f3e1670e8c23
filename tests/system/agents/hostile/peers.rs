//! At the port of the peers, which only other agents should reach: from whoever connects, and from one that says it is
//! a peer and is let in.

use super::*;
use paxoskv::codec::peer::{decode_hello, decode_welcome, encode_frame, encode_hello, pack_reply, pack_request};
use paxoskv::kv::peer::{Hello, PeerReply, PeerRequest, Position, Stamp, StoreOf, Welcome};
use paxoskv::limits::PEER_FRAME_BYTES;
use paxoskv::paxos::NodeId;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

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

/// What agent b says to agent a: overheard by listening in a's place.
fn hello_of_b(cluster: &mut Cluster) -> Hello {
    cluster.agents[0].kill();
    let listener = TcpListener::bind(cluster.agents[0].address).unwrap();
    let hello = until("agent b dials", || {
        let mut stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(NEVER)).unwrap();
        let hello = decode_hello(&frame_of(&mut stream)).unwrap();
        (hello.node == NodeId(2)).then_some(hello)
    });
    drop(listener);
    cluster.agents[0].start();
    cluster.await_all_up();
    hello
}

fn frame_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn welcome(stream: &mut TcpStream, hello: &Hello) -> Welcome {
    stream.write_all(&caller::frame(&encode_hello(hello))).unwrap();
    decode_welcome(&frame_of(stream)).unwrap()
}

/// A target and what agent b says to it.
fn target() -> (Target, Hello) {
    let mut target = Target::new();
    let hello = hello_of_b(&mut target.cluster);
    target.good = target.agent().connect();
    (target, hello)
}

#[test]
fn what_is_no_handshake_ends_the_connection_without_a_word() {
    let (mut target, hello) = target();
    let mut dice = Dice::new("hostile peers");
    let hello = encode_hello(&hello);
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
    let (mut target, right) = target();
    let mut life = right.life;
    life.number = 0;
    let no_store = StoreOf { node: NodeId(1), store: [9; 16] };
    let cases = [
        ("protocol versions", Hello { version_min: 2, version_max: 9, ..right.clone() }),
        ("another cluster", Hello { cluster_id: [9; 16], cluster_name: "\u{1b}[31m".repeat(500), ..right.clone() }),
        ("another membership", Hello { epoch: 2, ..right.clone() }),
        ("another membership", Hello { membership: [9; 16], ..right.clone() }),
        ("is not a voter", Hello { name: "zzz".into(), ..right.clone() }),
        ("is not a voter", Hello { node: NodeId(77), ..right.clone() }),
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
    let (mut target, hello) = target();
    let mut dice = Dice::new("hostile peers");
    let position = Position { life: hello.life.number, commit: 1 };
    let stamp = Stamp { epoch: 1, sender: NodeId(2), counter: 0, position };
    let list = PeerRequest::List { prefix: b"x"[..].into(), after: None };
    let asks = [pack_request(1 << 50, &list)];
    let answers = [pack_reply(1 << 50, &PeerReply::Listing { entries: Vec::new(), next: None })];
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
    report(format!("{count} connections of a false peer, each ended; the real one is back"));
}

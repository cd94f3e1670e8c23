//! What goes over the wire stays as it is: golden bytes, and a second library that writes the same.

use super::client::{PidOption, Reply as ClientReply, Request as ClientRequest, Status, decode_reply, decode_request};
use super::peer::*;
use super::{CodecError, client, decode, encode};
use crate::kv::ProcessId;
use crate::kv::peer::{
    BoundEntry, Hello, Known, Life, Listed, PeerReply, PeerRequest, Position, Role, Stamp, StoreOf, Welcome,
};
use crate::kv::register_key;
use crate::paxos::{Accepted, Ballot, Condition, NodeId, Refusal, Reply, Request};
use serde_bytes::ByteBuf;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn life() -> Life {
    Life { number: 3, id: [7; 16], start_commit: 9, boot_id: [8; 16] }
}

fn hello() -> Hello {
    Hello {
        version_min: 1,
        version_max: 1,
        features: 0,
        cluster_id: [1; 16],
        cluster_name: "c".into(),
        epoch: 1,
        membership: [2; 16],
        node: NodeId(1),
        name: "a".into(),
        store: [3; 16],
        life: life(),
        commit: 10,
        counter: 1 << 33,
        role: Role::Voter,
        nonce: [4; 16],
        formed: vec![StoreOf { node: NodeId(1), store: [3; 16] }],
        known: vec![Known { node: NodeId(2), life: life(), commit: 4 }],
        met: vec![StoreOf { node: NodeId(1), store: [3; 16] }],
    }
}

fn stamp() -> Stamp {
    Stamp { epoch: 1, sender: NodeId(2), counter: 70_000, position: Position { life: 3, commit: 11 } }
}

fn requests() -> Vec<PeerRequest> {
    let register = register_key("default", b"\x61k");
    let ballot = Ballot::new(5, NodeId(2));
    let process = ProcessId { boot_id: [9; 16], pid: 77, start_ticks: 1000, inode: 5 };
    let condition = Some(Condition { kind: 1, body: b"x".as_slice().into() });
    let paxos = PeerRequest::Paxos;
    vec![
        paxos(Request::Prepare { register: register.clone(), ballot, condition: None }),
        paxos(Request::Prepare { register: register.clone(), ballot, condition }),
        paxos(Request::Accept { register: register.clone(), ballot, value: b"entry".as_slice().into() }),
        paxos(Request::Query { register: register.clone() }),
        PeerRequest::List { prefix: register_key("default", b""), after: None },
        PeerRequest::List { prefix: register_key("default", b""), after: Some(register.clone()) },
        PeerRequest::Bound(vec![BoundEntry { register, token: ballot, process }]),
        PeerRequest::Heartbeat { sequence: 8, incarnation: 1, known: hello().known, stores: hello().met, formed: true },
    ]
}

fn replies() -> Vec<PeerReply> {
    let accepted = Some(Accepted { ballot: Ballot::new(5, NodeId(2)), value: b"entry".as_slice().into() });
    let register = register_key("default", b"\x61k");
    let paxos = PeerReply::Paxos;
    let mut all = vec![
        paxos(Reply::Promised { accepted: accepted.clone(), clock_ms: 1_700_000_000_000 }),
        paxos(Reply::Promised { accepted: None, clock_ms: 0 }),
        paxos(Reply::Accepted),
        paxos(Reply::Rejected { promised: Ballot::last_of(9) }),
        paxos(Reply::State { accepted }),
        paxos(Reply::State { accepted: None }),
        PeerReply::Listing {
            entries: vec![Listed { register: register.clone(), ballot: Ballot::ZERO, live: true }],
            next: None,
        },
        PeerReply::Listing { entries: Vec::new(), next: Some(register) },
        PeerReply::Heartbeat { sequence: 8, acknowledged: true },
    ];
    use Refusal::*;
    all.extend([Condition, NotVoting, Epoch, Counter, Busy, Unsupported].map(|r| paxos(Reply::Refused(r))));
    all
}

#[test]
fn every_message_survives_its_bytes() {
    let packed: Vec<Packed> = (1..)
        .zip(requests())
        .map(|(nonce, r)| pack_request(nonce, &r))
        .chain((100..).zip(replies()).map(|(nonce, r)| pack_reply(nonce, &r)))
        .collect();
    let frame = decode_frame(&encode_frame(&stamp(), &packed)).unwrap();
    assert_eq!(frame.stamp, stamp());
    assert_eq!(frame.requests.iter().map(|m| m.nonce).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    assert_eq!(frame.requests.into_iter().map(|m| m.body).collect::<Vec<_>>(), requests());
    assert_eq!(frame.replies.into_iter().map(|m| m.body).collect::<Vec<_>>(), replies());
    assert_eq!(decode_hello(&encode_hello(&hello())), Ok(hello()));
    for welcome in [Welcome::Accepted(Box::new(hello())), Welcome::Refused("no".into())] {
        assert_eq!(decode_welcome(&encode_welcome(&welcome)), Ok(welcome));
    }
}

#[test]
fn peer_frame_bytes_stay_as_they_are() {
    let frame = encode_frame(&stamp(), &[pack_request(6, &requests()[2]), pack_reply(7, &replies()[2])]);
    // [1, 2, 70000, 3, 11, [[2, 6, body of an accept], [130, 7, body of an accepted]]]
    let accept = "834a0764656661756c74616b1a0005000245656e747279";
    let expected = format!("8601021a00011170030b82830206{}{accept}83188207{}", "57", "4180");
    assert_eq!(hex(&frame), expected);
}

#[test]
fn handshake_bytes_stay_as_they_are() {
    let expected = concat!(
        "b26b76657273696f6e5f6d696e016b76657273696f6e5f6d617801686665617475726573006a636c75737465725f6964",
        "50010101010101010101010101010101016c636c75737465725f6e616d6561636565706f6368016a6d656d6265727368",
        "69705002020202020202020202020202020202646e6f646501646e616d6561616573746f726550030303030303030303",
        "03030303030303646c696665a4666e756d6265720362696450070707070707070707070707070707076c73746172745f",
        "636f6d6d69740967626f6f745f6964500808080808080808080808080808080866636f6d6d69740a67636f756e746572",
        "1b000000020000000064726f6c6565766f746572656e6f6e6365500404040404040404040404040404040466666f726d",
        "656481a2646e6f6465016573746f72655003030303030303030303030303030303636d657481a2646e6f646501657374",
        "6f72655003030303030303030303030303030303656b6e6f776e81a3646e6f646502646c696665a4666e756d62657203",
        "62696450070707070707070707070707070707076c73746172745f636f6d6d69740967626f6f745f6964500808080808",
        "080808080808080808080866636f6d6d697404",
    );
    assert_eq!(hex(&encode_hello(&hello())), expected);
}

#[test]
fn a_kind_of_a_newer_version_is_stepped_over() {
    let newer = [pack_request(1, &PeerRequest::Unknown(99)), pack_reply(2, &PeerReply::Unknown(200))];
    let frame = decode_frame(&encode_frame(&stamp(), &newer)).unwrap();
    assert_eq!(frame.requests[0].body, PeerRequest::Unknown(99));
    assert_eq!(frame.replies[0].body, PeerReply::Unknown(200));
}

#[test]
fn a_field_of_a_newer_handshake_is_ignored() {
    #[derive(serde::Serialize)]
    struct Newer {
        #[serde(flatten)]
        hello: Hello,
        invented_later: u32,
    }
    let mut bytes = Vec::new();
    ciborium::into_writer(&Newer { hello: hello(), invented_later: 5 }, &mut bytes).unwrap();
    assert_eq!(decode_hello(&bytes), Ok(hello()));
}

#[test]
fn another_cbor_library_writes_the_same_bytes() {
    fn same<T: serde::Serialize>(value: &T) {
        let mut theirs = Vec::new();
        ciborium::into_writer(value, &mut theirs).unwrap();
        assert_eq!(hex(&encode(value)), hex(&theirs));
    }
    same(&hello());
    same(&Welcome::Accepted(Box::new(hello())));
    same(&requests().iter().map(|r| pack_request(1, r)).collect::<Vec<_>>());
    same(&replies().iter().map(|r| pack_reply(1, r)).collect::<Vec<_>>());
    same(&request());
    same(&ClientReply { id: 1, token: Some(u64::MAX), keys: Some(vec![ByteBuf::from(*b"k")]), ..Default::default() });
}

fn request() -> ClientRequest {
    ClientRequest {
        id: 1,
        op: "put".into(),
        key: Some(ByteBuf::from(*b"\x61k")),
        value: Some(ByteBuf::from(*b"\x61v")),
        request: Some(ByteBuf::from([5; 16])),
        pid: Some(PidOption::Connector(true)),
        ..ClientRequest::default()
    }
}

#[test]
fn client_frame_bytes_stay_as_they_are() {
    let expected = "a66269640162 6f7063707574 636b657942616b 6576616c7565 426176 6772657175657374 50 \
                    05050505050505050505050505050505 63706964f5";
    assert_eq!(hex(&client::encode_request(&request())), expected.replace(' ', ""));
    let reply = ClientReply { id: 1, status: Status::NotFound, ..ClientReply::default() };
    assert_eq!(hex(&client::encode_reply(&reply)), "a262696401667374617475736 96e6f745f666f756e64".replace(' ', ""));
    assert_eq!(decode_request(&client::encode_request(&request())), Ok(request()));
    assert_eq!(decode_reply(&client::encode_reply(&reply)), Ok(reply));
}

#[test]
fn a_misspelled_field_of_a_request_is_an_error_that_names_it() {
    let mut bytes = Vec::new();
    #[derive(serde::Serialize)]
    struct Misspelled {
        id: u64,
        op: &'static str,
        untill: u64,
    }
    ciborium::into_writer(&Misspelled { id: 1, op: "put", untill: 5 }, &mut bytes).unwrap();
    let Err(CodecError::Malformed(why)) = decode_request(&bytes) else { panic!("accepted") };
    assert!(why.contains("untill"), "{why}");
}

#[test]
fn bytes_that_are_no_frame_are_an_error() {
    let frame = encode_frame(&stamp(), &requests().iter().map(|r| pack_request(1, r)).collect::<Vec<_>>());
    for n in 0..frame.len() {
        assert!(decode_frame(&frame[..n]).is_err(), "cut to {n} bytes");
    }
    let mut trailing = frame.clone();
    trailing.push(0);
    assert!(decode_frame(&trailing).is_err(), "a trailing byte");
    let deep = vec![0x81; 100_000];
    assert!(decode::<Vec<u64>>(&deep).is_err() && decode_frame(&deep).is_err() && decode_request(&deep).is_err());
    let huge = [0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert!(decode::<Vec<u64>>(&huge).is_err() && decode::<ByteBuf>(&huge).is_err());
    let mut random = 1u64;
    for _ in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut damaged = frame.clone();
        let at = (random >> 33) as usize % damaged.len();
        damaged[at] ^= (random >> 20) as u8 | 1;
        // Total: whatever comes of it, it comes without a panic.
        let _ = (decode_frame(&damaged), decode_hello(&damaged), decode_request(&damaged), decode_reply(&damaged));
    }
}

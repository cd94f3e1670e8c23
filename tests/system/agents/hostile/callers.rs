//! At the socket of the applications.

use super::*;
use paxoskv::codec::client::{Parent, encode_request};
use paxoskv::limits::{BUCKET_BYTES, CLIENT_FRAME_BYTES, DEADLINE_MAX_MS, KEY_BYTES, NESTING_LEVELS, VALUE_BYTES};
use std::io::Write;
use std::net::Shutdown;

/// Sends bytes and nothing after them; every reply until the agent closes the connection.
fn replies_to(agent: &Agent, greeted: bool, bytes: &[u8]) -> Vec<Reply> {
    let caller = if greeted { Caller::connect(&agent.socket) } else { Caller::silent(&agent.socket) };
    let mut caller = caller.unwrap();
    // The agent may close the connection before it has read everything.
    let _ = caller.stream.write_all(bytes).and_then(|()| caller.stream.shutdown(Shutdown::Write));
    let mut replies = Vec::new();
    loop {
        match caller.receive() {
            Ok(reply) => replies.push(reply),
            Err(e) => {
                let closed = [std::io::ErrorKind::UnexpectedEof, std::io::ErrorKind::ConnectionReset];
                assert!(closed.contains(&e.kind()), "the agent closes the connection: {e}");
                return replies;
            }
        }
    }
}

/// A text item of so many bytes, encoded; its head is the shortest one.
fn text_of(length: usize) -> ByteBuf {
    let head = [1, 2, 3, 5].into_iter().find(|head| text(&"x".repeat(length - head)).len() == length);
    ByteBuf::from(text(&"x".repeat(length - head.unwrap())))
}

fn nested(levels: usize) -> ByteBuf {
    ByteBuf::from([vec![0x81; levels], vec![0]].concat())
}

#[test]
fn what_is_no_request_is_answered_with_an_error_and_the_end_of_the_connection() {
    let mut target = Target::new();
    let mut cases = malformed();
    let hello = encode_request(&Request { versions: Some((1, 1)), ..plain("hello") });
    let request = encode_request(&Request { id: 7, ..get("k") });
    let unknown_field = [&[0xa3, 0x64][..], b"mood", &[0x01], &request[1..]].concat();
    cases.push(("bytes after the request", caller::frame(&[&request[..], &[0]].concat())));
    cases.push(("two requests in one frame", caller::frame(&[&request[..], &request].concat())));
    cases.push(("an unknown field", caller::frame(&unknown_field)));
    cases.push(("no operation", caller::frame(&[0xa1, 0x62, b'i', b'd', 0x01])));
    cases.push(("an id below 0", caller::frame(&[&[0xa2, 0x62, b'i', b'd', 0x20], &request[5..]].concat())));
    cases.push(("too long a frame", caller::frame(&vec![0x60; CLIENT_FRAME_BYTES + 1])));
    cases.push(("the longest frame", caller::frame(&vec![0x60; CLIENT_FRAME_BYTES])));
    for (case, bytes) in cases {
        for greeted in [true, false] {
            let replies = replies_to(target.agent(), greeted, &bytes);
            assert_eq!(replies.len(), 1, "{case}: {replies:?}");
            assert_eq!((replies[0].status, replies[0].id), (Status::BadRequest, 0), "{case}: {replies:?}");
            println!("{case}: {}", replies[0].message.as_ref().expect("it says why"));
            target.serves();
        }
    }
    // Before a hello nothing is answered, but a hello is enough.
    let early = replies_to(target.agent(), false, &caller::frame(&request));
    assert_eq!((early.len(), early[0].status), (1, Status::BadRequest), "{early:?}");
    let both = replies_to(target.agent(), false, &[caller::frame(&hello), caller::frame(&request)].concat());
    assert_eq!((both[0].status, both[1].status), (Status::Ok, Status::NotFound), "{both:?}");
    let version = encode_request(&Request { versions: Some((2, 9)), ..plain("hello") });
    let other = replies_to(target.agent(), false, &[caller::frame(&version), caller::frame(&request)].concat());
    assert_eq!((other.len(), other[0].status), (1, Status::Unsupported), "{other:?}");
}

#[test]
fn a_request_over_a_limit_or_against_a_rule_is_answered_and_the_connection_goes_on() {
    use Status::*;
    let mut target = Target::new();
    let key = |key: ByteBuf| Request { key: Some(key), ..put("", "v") };
    let value = |value: ByteBuf| Request { value: Some(value), ..put("k", "") };
    let bucket = |bucket: &str| Request { bucket: Some(bucket.into()), ..put("k", "v") };
    let parent = Parent { bucket: None, key: ByteBuf::from(text("k")) };
    let cases = vec![
        ("a key over its limit", key(text_of(KEY_BYTES + 1)), TooLarge),
        ("a key far over its limit", key(text_of(10 * KEY_BYTES)), TooLarge),
        ("a key 10,000 deep", key(nested(10_000)), TooLarge),
        ("a key too deep", key(nested(NESTING_LEVELS + 1)), BadRequest),
        ("a value over its limit", value(text_of(VALUE_BYTES + 1)), TooLarge),
        ("a value far over its limit", value(text_of(3 * VALUE_BYTES)), TooLarge),
        ("a value 10,000 deep", value(nested(10_000)), BadRequest),
        ("a value too deep", value(nested(NESTING_LEVELS + 1)), BadRequest),
        ("a key and a byte", key(ByteBuf::from([text("k"), vec![0]].concat())), BadRequest),
        ("a value and a byte", value(ByteBuf::from([text("v"), vec![0]].concat())), BadRequest),
        ("half a key", key(ByteBuf::from(&text("key")[..3])), BadRequest),
        ("an empty key", key(ByteBuf::new()), BadRequest),
        ("an empty value", value(ByteBuf::new()), BadRequest),
        ("a key that announces 2^64 bytes", key(ByteBuf::from([&[0x5b], &[0xff; 8][..]].concat())), BadRequest),
        ("a value that announces 2^64 elements", value(ByteBuf::from([&[0x9b], &[0xff; 8][..]].concat())), BadRequest),
        ("a bucket over its limit", bucket(&"b".repeat(BUCKET_BYTES + 1)), TooLarge),
        ("an empty bucket", bucket(""), BadRequest),
        ("a bucket of the agents", bucket("$session"), NotPermitted),
        ("listing a bucket of the agents", Request { bucket: Some("$".into()), ..plain("keys") }, NotPermitted),
        ("an unknown operation", plain("drop"), BadRequest),
        ("a long unknown operation", plain(&"\u{7}x".repeat(50_000)), BadRequest),
        ("a field of another operation", Request { token: Some(1), ..put("k", "v") }, BadRequest),
        ("no key", Request { key: None, ..get("k") }, BadRequest),
        ("no value", Request { value: None, ..put("k", "v") }, BadRequest),
        ("no request id", Request { request: None, ..put("k", "v") }, BadRequest),
        ("a short request id", Request { request: Some(ByteBuf::from([0; 15])), ..put("k", "v") }, BadRequest),
        ("another word for fd", Request { pid: Some(PidOption::Passed("me".into())), ..put("k", "v") }, BadRequest),
        ("no deadline", Request { deadline: Some(0), ..get("k") }, BadRequest),
        ("too late a deadline", Request { deadline: Some(DEADLINE_MAX_MS + 1), ..get("k") }, BadRequest),
        ("a time that is over", Request { until: Some(0), ..put("k", "v") }, InvalidValue),
        ("a reserved binding", Request { node: Some("a".into()), ..put("k", "v") }, Unsupported),
        ("another reserved binding", Request { parent: Some(parent), ..put("k", "v") }, Unsupported),
        ("a release of nothing", Request { token: Some(u64::MAX), ..release("k") }, NotFound),
    ];
    let mut caller = target.agent().connect();
    for (case, request, expected) in cases {
        let reply = caller.ask(request);
        assert_eq!(reply.status, expected, "{case}: {reply:?}");
        assert!(expected == NotFound || reply.message.as_ref().is_some_and(|m| m.len() < 500), "{case}: {reply:?}");
        assert!(expected != TooLarge || reply.message.is_some_and(|m| m.contains("at most")), "{case}");
        target.serves();
    }
    assert!(!is_there(&mut caller, "k"), "nothing was stored");
    // The limits themselves are allowed.
    caller.set(key(text_of(KEY_BYTES)));
    caller.set(key(nested(NESTING_LEVELS)));
    let most = Request { bucket: Some("b".repeat(BUCKET_BYTES)), ..value(text_of(VALUE_BYTES)) };
    caller.set(most.clone());
    let read = target.cluster.agents[1].connect().ask(Request { bucket: most.bucket, ..get("k") });
    assert_eq!(read.value, most.value);
    // Another encoding of the same key, with a head of five bytes, is the same key.
    caller.set(key(ByteBuf::from(text("word"))));
    let same = caller.ask(key(ByteBuf::from([&[0x7a, 0, 0, 0, 4], &b"word"[..]].concat())));
    assert_eq!((same.status, same.created), (Ok, Some(false)), "{same:?}");
}

#[test]
fn random_and_mutated_requests_are_answered_or_end_the_connection() {
    let mut target = Target::new();
    let mut dice = Dice::new("hostile callers");
    let big = Request { value: Some(text_of(5000)), until: Some(u64::MAX), deadline: Some(9), ..put("k", "v") };
    let samples = [big, put("k", "v"), get("k"), release("k"), plain("keys"), plain("status"), plain("hello")];
    let (mut answered, mut closed) = (0, 0);
    for round in 0..rounds(200) {
        let bytes = if round % 4 == 0 {
            let count = dice.below(5000);
            dice.bytes(count)
        } else {
            // Several requests, so that a wrong one is between right ones; all but the mutated one are whole.
            let mut bytes = Vec::new();
            for sample in 0..4 {
                let request = &samples[dice.below(samples.len())];
                let mut encoded = encode_request(&Request { id: dice.next() % 1000, ..request.clone() });
                if sample == 2 {
                    mutate(&mut dice, &mut encoded);
                }
                bytes.extend(caller::frame(&encoded));
            }
            bytes
        };
        let replies = replies_to(target.agent(), !dice.next().is_multiple_of(8), &bytes);
        answered += replies.len();
        closed += usize::from(replies.last().is_some_and(|r| r.id == 0));
        if round % 20 == 0 {
            target.serves();
        }
    }
    target.serves();
    report(format!("random and mutated requests: {answered} answers, {closed} connections ended with a reason"));
}

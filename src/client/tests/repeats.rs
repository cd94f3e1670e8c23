//! What becomes of requests when the connection breaks or the agent is silent.

use super::*;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

#[tokio::test(start_paused = true)]
async fn put_in_flight_when_the_connection_breaks_is_repeated_as_the_same_request_and_a_retry() {
    let (agent, client, mut peer) = Agent::connected().await;
    let serve = async {
        let first = peer.request().await;
        drop(peer);
        let second = agent.accept().await.answer(entry("v", 7)).await;
        (first, second)
    };
    let (answer, (first, second)) = tokio::join!(client.put("k", "v", PutOptions::new()), serve);
    assert_eq!(answer.unwrap().decided().unwrap().token, 7);
    assert_eq!((first.retry, second.retry), (false, true));
    assert_eq!(first.request.as_ref().map(|id| id.len()), Some(16));
    assert_eq!((first.request, first.key, first.value), (second.request, second.key, second.value));
}

#[tokio::test(start_paused = true)]
async fn refusal_of_a_repeated_put_says_nothing_about_the_first() {
    for status in [WireStatus::Overloaded, WireStatus::NoQuorum, WireStatus::InvalidValue] {
        let (agent, client, mut peer) = Agent::connected().await;
        let serve = async {
            peer.request().await;
            drop(peer);
            let outcome = Some("not_sent".to_owned());
            agent.accept().await.answer(|request| Reply { status, outcome, ..to(request) }).await
        };
        let (answer, _) = tokio::join!(client.put("k", "v", PutOptions::new()), serve);
        let unknown = matches!(answer, Err(ClientError::Unknown(_)) | Ok(Answer::NoQuorum(Outcome::Unknown)));
        assert!(unknown, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn puts_of_two_calls_have_two_request_ids() {
    let (_agent, client, mut peer) = Agent::connected().await;
    let serve = async { (peer.answer(entry("v", 1)).await, peer.answer(entry("v", 1)).await) };
    let (_, _, (first, second)) =
        tokio::join!(client.put("k", "v", PutOptions::new()), client.put("k", "v", PutOptions::new()), serve);
    assert_ne!(first.request, second.request);
    assert_ne!(first.id, second.id);
}

#[tokio::test(start_paused = true)]
async fn put_that_no_agent_can_have_read_is_not_repeated_as_a_retry() {
    let (agent, client, peer) = Agent::connected().await;
    drop(peer);
    let serve = async { agent.accept().await.answer(entry("v", 7)).await };
    let (answer, request) = tokio::join!(client.put("k", "v", PutOptions::new()), serve);
    assert!(answer.is_ok());
    assert!(!request.retry);
}

#[tokio::test(start_paused = true)]
async fn puts_that_the_socket_had_no_room_for_are_not_repeated_as_retries() {
    let (agent, client, peer) = Agent::connected().await;
    let count = 20;
    let puts: Vec<_> = (0..count)
        .map(|key| {
            let client = client.clone();
            let value = serde_bytes::ByteBuf::from(vec![0; 60_000]);
            tokio::spawn(async move { client.put(key, value, PutOptions::new()).await })
        })
        .collect();
    let serve = async {
        // All have been asked, and the buffers of the socket are full, when nobody has anything left to do.
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(peer);
        let mut peer = agent.accept().await;
        let mut retries = Vec::new();
        for _ in 0..count {
            retries.push(peer.answer(entry("v", 7)).await.retry);
        }
        retries
    };
    let retries = serve.await;
    for put in puts {
        put.await.unwrap().unwrap().decided().unwrap();
    }
    assert!(retries[0] && !retries[count - 1], "{retries:?}");
    assert!(retries.is_sorted_by(|a, b| a >= b), "{retries:?}");
}

#[tokio::test(start_paused = true)]
async fn put_whose_caller_has_gone_is_not_repeated() {
    let (agent, client, mut peer) = Agent::connected().await;
    let put = tokio::spawn({
        let client = client.clone();
        async move { client.put("abandoned", "v", PutOptions::new()).await }
    });
    peer.request().await;
    put.abort();
    assert!(put.await.unwrap_err().is_cancelled());
    drop(peer);
    let serve = async { agent.accept().await.answer(entry("v", 7)).await };
    let (answer, request) = tokio::join!(client.get("k", GetOptions::new()), serve);
    answer.unwrap().decided().unwrap();
    assert_eq!(request.op, "get");
}

#[tokio::test(start_paused = true)]
async fn read_is_repeated_with_the_time_that_is_left() {
    let (agent, client, mut peer) = Agent::connected().await;
    let serve = async {
        let first = peer.request().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(peer);
        (first, agent.accept().await.answer(entry("v", 7)).await)
    };
    let options = GetOptions::new().deadline(Duration::from_secs(8));
    let (answer, (first, second)) = tokio::join!(client.get("k", options), serve);
    assert!(answer.is_ok());
    assert_eq!(first.deadline, Some(8000));
    assert_eq!((second.op.as_str(), second.retry), ("get", false));
    assert!((4900..=5000).contains(&second.deadline.unwrap()), "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn release_without_a_token_asks_which_entry_it_is_and_repeats_with_its_token() {
    let (agent, client, mut peer) = Agent::connected().await;
    let serve = async {
        let get = peer.answer(entry("v", 7)).await;
        let first = peer.request().await;
        drop(peer);
        let second = agent.accept().await.answer(with_status(WireStatus::NotFound)).await;
        (get, first, second)
    };
    let (answer, (get, first, second)) = tokio::join!(client.release("k", ReleaseOptions::new()), serve);
    // Nothing is there any more: the first attempt was carried out.
    assert_eq!(answer.unwrap(), Answer::Ok(Some(7)));
    assert_eq!((get.op.as_str(), first.op.as_str()), ("get", "release"));
    assert_eq!((first.token, second.token), (Some(7), Some(7)));
}

#[tokio::test(start_paused = true)]
async fn release_of_nothing_finds_nothing() {
    let (_agent, client, mut peer) = Agent::connected().await;
    let serve = peer.answer(with_status(WireStatus::NotFound));
    let (answer, request) = tokio::join!(client.release("k", ReleaseOptions::new().token(9)), serve);
    assert_eq!((answer.unwrap(), request.token), (Answer::Ok(None), Some(9)));
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_timeout_for_a_read_and_an_unknown_outcome_for_a_write() {
    let (_agent, client, _peer) = Agent::connected().await;
    let begun = Instant::now();
    let (get, put) = tokio::join!(
        client.get("k", GetOptions::new().deadline(Duration::from_secs(1))),
        client.put("k", "v", PutOptions::new().deadline(Duration::from_secs(1))),
    );
    assert!(matches!(get, Err(ClientError::TimedOut(_))), "{get:?}");
    assert!(matches!(put, Err(ClientError::Unknown(_))), "{put:?}");
    assert!((16..17).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn silent_agent_is_left_and_what_is_under_way_asked_again() {
    let (agent, client, mut peer) = Agent::connected().await;
    let serve = async {
        let first = peer.request().await;
        let peer = agent.accept().await.answer(entry("v", 7)).await;
        (first, peer)
    };
    let (plain, patient, (first, second)) =
        tokio::join!(client.now(), client.get("k", GetOptions::new().deadline(Duration::from_secs(60))), serve);
    assert!(matches!(plain, Err(ClientError::TimedOut(_))), "{plain:?}");
    assert!(patient.is_ok());
    assert_eq!((first.op.as_str(), second.op.as_str()), ("now", "get"));
}

#[tokio::test(start_paused = true)]
async fn stuck_handshake_is_abandoned_and_tried_again() {
    let agent = Agent::listen();
    let options = ConnectOptions { lazy: true, ..ConnectOptions::default() };
    let client = Client::connect_with(agent.path(), options).await.unwrap();
    let serve = async {
        let stuck = agent.listener.accept().await.unwrap();
        let request = agent.accept().await.answer(entry("v", 7)).await;
        drop(stuck);
        request
    };
    let (answer, request) = tokio::join!(client.put("k", "v", PutOptions::new()), serve);
    assert!(answer.is_ok());
    assert!(!request.retry);
}

#[tokio::test(start_paused = true)]
async fn nobody_at_the_socket_is_not_reachable_and_a_lazy_client_waits_for_somebody() {
    let agent = Agent::listen();
    let (path, absent) = (agent.path(), agent.directory.path().join("absent"));
    let error = Client::connect(&absent).await.unwrap_err();
    assert!(matches!(error, ClientError::NotReachable(_)), "{error}");
    assert!(error.to_string().contains("there is no socket"), "{error}");

    let client = Client::connect_with(&absent, ConnectOptions { lazy: true, ..Default::default() }).await.unwrap();
    let error = client.put("k", "v", PutOptions::new()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotReachable(_)), "{error}");

    let serve = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        std::fs::rename(&path, &absent).unwrap();
        agent.accept().await.answer(|request| Reply { now: Some(42), ..to(request) }).await
    };
    let (now, _) = tokio::join!(client.now(), serve);
    assert_eq!(now, Ok(42));
}

#[tokio::test(start_paused = true)]
async fn agent_that_hangs_in_the_handshake_is_not_reachable() {
    let agent = Agent::listen();
    let error = Client::connect(agent.path()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotReachable(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn agent_that_speaks_nonsense_is_left() {
    let (agent, client, mut peer) = Agent::connected().await;
    let serve = async {
        peer.request().await;
        peer.0.write_all(&[0, 0, 0, 2, 0xff, 0xff]).await.unwrap();
        let mut peer = agent.accept().await;
        peer.request().await;
        peer.0.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        agent.accept().await.answer(entry("v", 7)).await
    };
    let (answer, _) = tokio::join!(client.get("k", GetOptions::new()), serve);
    assert!(answer.is_ok());
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_are_under_way_than_the_protocol_allows() {
    let (_agent, client, mut peer) = Agent::connected().await;
    let asked: Vec<_> = (0..300)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.now().await })
        })
        .collect();
    let mut requests = Vec::new();
    for _ in 0..wire::PIPELINE {
        requests.push(peer.request().await);
    }
    let more = tokio::time::timeout(Duration::from_secs(1), peer.request()).await;
    assert!(more.is_err(), "{more:?}");
    // In any order.
    for request in requests.iter().rev() {
        peer.reply(Reply { now: Some(request.id), ..to(request) }).await;
    }
    for _ in wire::PIPELINE..300 {
        peer.answer(|request| Reply { now: Some(request.id), ..to(request) }).await;
    }
    for answer in asked {
        answer.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn descriptor_goes_with_the_first_byte_of_its_frame_and_again_when_it_is_repeated() {
    let (agent, client, mut peer) = Agent::connected().await;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"this one").unwrap();
    let fd = std::sync::Arc::new(OwnedFd::from(file));
    let serve = async {
        // The frame before it must not take it.
        peer.request().await;
        assert_eq!(received(&peer).await, 8);
        drop(peer);
        let mut peer = agent.accept().await;
        peer.answer(|request| Reply { now: Some(1), ..to(request) }).await;
        let size = received(&peer).await;
        (size, peer)
    };
    let options = PutOptions::new().pid(Pid::Fd(fd)).deadline(Duration::from_secs(1));
    let (_, put, (size, _peer)) = tokio::join!(client.now(), client.put("k", "v", options), serve);
    assert_eq!(size, 8);
    assert!(matches!(put, Err(ClientError::Unknown(_))), "{put:?}");
}

/// Reads a frame with recvmsg; the size of the file that came with its first byte.
async fn received(peer: &Peer) -> u64 {
    loop {
        peer.0.readable().await.unwrap();
        let (mut first, mut fds) = ([0], Vec::new());
        let read = || crate::process::recv_with_fds(peer.0.as_fd(), &mut first, &mut fds, 1);
        match peer.0.try_io(tokio::io::Interest::READABLE, read) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            result => {
                assert_eq!(result.unwrap().bytes, 1);
                let file = std::fs::File::from(fds.pop().expect("a descriptor came with the first byte"));
                return file.metadata().unwrap().len();
            }
        }
    }
}

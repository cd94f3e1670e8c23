//! What replies mean to the caller.

use super::*;

#[tokio::test(start_paused = true)]
async fn put_sends_its_options() {
    let (_agent, client, mut peer) = Agent::connected().await;
    let parent = to_item("parent").unwrap();
    let options = PutOptions::new()
        .bucket("b")
        .own_pid()
        .until(123)
        .node("n")
        .parent_item(Some("pb"), parent.clone())
        .no_quorum(NoQuorum::Retry)
        .deadline(Duration::from_millis(150));
    let (answer, request) = tokio::join!(client.put(("k", 1), "v", options), peer.answer(entry("other", 9)));
    let answer = answer.unwrap().decided().unwrap();
    assert_eq!((answer.value::<String>().unwrap().as_str(), answer.token, answer.created), ("other", 9, true));
    assert_eq!(request.bucket.as_deref(), Some("b"));
    assert_eq!(request.pid, Some(PidOption::Connector(true)));
    assert_eq!((request.until, request.node.as_deref()), (Some(123), Some("n")));
    let sent = request.parent.unwrap();
    assert_eq!((sent.bucket.as_deref(), sent.key.into_vec()), (Some("pb"), parent));
    assert_eq!(request.no_quorum.as_deref(), Some("retry"));
    assert_eq!(request.deadline, Some(150));
    assert_eq!(request.key.unwrap().into_vec(), [0x82, 0x61, b'k', 1]);
}

#[tokio::test(start_paused = true)]
async fn deadline_that_is_not_set_is_ten_seconds_and_a_day_for_who_waits() {
    let (_agent, client, mut peer) = Agent::connected().await;
    for (mode, ms) in [(NoQuorum::Return, 10_000), (NoQuorum::Fail, 10_000), (NoQuorum::Retry, DEADLINE_MAX_MS)] {
        let options = GetOptions::new().no_quorum(mode);
        let (answer, request) = tokio::join!(client.get("k", options), peer.answer(entry("v", 1)));
        answer.unwrap().decided().unwrap();
        assert_eq!(request.deadline, Some(ms));
    }
}

#[tokio::test(start_paused = true)]
async fn no_quorum_is_an_answer_or_an_error_as_the_caller_chooses() {
    let (_agent, client, mut peer) = Agent::connected().await;
    let (answer, _) = tokio::join!(client.put("k", "v", PutOptions::new()), peer.answer(no_quorum));
    assert_eq!(answer.unwrap(), Answer::NoQuorum(Outcome::NotSent));
    let options = PutOptions::new().no_quorum(NoQuorum::Fail);
    let (answer, _) = tokio::join!(client.put("k", "v", options), peer.answer(no_quorum));
    assert_eq!(answer.unwrap_err(), ClientError::NoQuorum { outcome: Outcome::NotSent });
    let options = ReleaseOptions::new();
    let (answer, _) = tokio::join!(client.release("k", options), peer.answer(no_quorum));
    assert_eq!(answer.unwrap(), Answer::NoQuorum(Outcome::NotSent));
}

#[tokio::test(start_paused = true)]
async fn default_answers_absence_and_never_the_lack_of_a_quorum() {
    let (_agent, client, mut peer) = Agent::connected().await;
    let ask = || client.get_or("k", "default".to_owned(), GetOptions::new());
    let (absent, _) = tokio::join!(ask(), peer.answer(with_status(WireStatus::NotFound)));
    assert_eq!(absent.unwrap(), Answer::Ok("default".to_owned()));
    let (present, _) = tokio::join!(ask(), peer.answer(entry("v", 1)));
    assert_eq!(present.unwrap(), Answer::Ok("v".to_owned()));
    let (nobody, _) = tokio::join!(ask(), peer.answer(no_quorum));
    assert_eq!(nobody.unwrap(), Answer::NoQuorum(Outcome::NotSent));
}

#[tokio::test(start_paused = true)]
async fn value_of_another_type_is_an_error_of_its_own() {
    let (_agent, client, mut peer) = Agent::connected().await;
    let (answer, _) = tokio::join!(client.get_or("k", 5_u32, GetOptions::new()), peer.answer(entry("v", 1)));
    assert!(matches!(answer, Err(ClientError::WrongType(_))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn keys_of_several_pages_are_one_list() {
    let (_agent, client, mut peer) = Agent::connected().await;
    let page = |keys: &[&str], next: Option<&str>| {
        let item = |key: &&str| ByteBuf::from(to_item(*key).unwrap());
        let (keys, next) = (keys.iter().map(item).collect(), next.as_ref().map(item));
        move |request: &Request| Reply { keys: Some(keys), next, quorum: Some(true), ..to(request) }
    };
    let serve = async {
        let first = peer.answer(page(&["a", "b"], Some("b"))).await;
        (first, peer.answer(page(&["c"], None)).await)
    };
    let (keys, (first, second)) = tokio::join!(client.keys(KeysOptions::new()), serve);
    let keys = keys.unwrap();
    assert!(keys.quorum);
    assert_eq!(keys.keys::<String>().unwrap(), ["a", "b", "c"]);
    assert_eq!((first.after, second.after), (None, Some(ByteBuf::from(to_item("b").unwrap()))));

    // The quorum goes in the middle: half a list is none.
    let serve = async {
        peer.answer(page(&["a", "b"], Some("b"))).await;
        peer.answer(|request| Reply { keys: Some(Vec::new()), quorum: Some(false), ..to(request) }).await
    };
    let (keys, _) = tokio::join!(client.keys(KeysOptions::new()), serve);
    assert_eq!(keys.unwrap(), Keys { items: Vec::new(), quorum: false });

    let serve = async {
        peer.answer(page(&["a", "b"], Some("b"))).await;
        peer.answer(page(&["b"], Some("b"))).await
    };
    let (keys, _) = tokio::join!(client.keys(KeysOptions::new()), serve);
    assert!(matches!(keys, Err(ClientError::Agent(_))), "{keys:?}");
}

#[tokio::test(start_paused = true)]
async fn each_refusal_is_an_error_of_its_own_with_the_agents_reason() {
    let (_agent, client, mut peer) = Agent::connected().await;
    let why = || "the reason".to_owned();
    let cases = [
        (WireStatus::Unknown, ClientError::Unknown(why())),
        (WireStatus::InvalidValue, ClientError::InvalidValue(why())),
        (WireStatus::NotPermitted, ClientError::NotPermitted(why())),
        (WireStatus::TooLarge, ClientError::TooLarge(why())),
        (WireStatus::Unsupported, ClientError::Unsupported(why())),
        (WireStatus::BadRequest, ClientError::BadRequest(why())),
        (WireStatus::Overloaded, ClientError::Overloaded(why())),
        (WireStatus::Error, ClientError::Agent(why())),
    ];
    for (status, expected) in cases {
        let refuse = |request: &Request| Reply { status, message: Some(why()), ..to(request) };
        let (answer, _) = tokio::join!(client.put("k", "v", PutOptions::new()), peer.answer(refuse));
        assert_eq!(answer.unwrap_err(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn refused_handshake_is_the_error_that_the_agent_gives() {
    let agent = Agent::listen();
    let serve = async {
        let mut peer = Peer(agent.listener.accept().await.unwrap().0);
        let message = Some("too many connections".to_owned());
        // Without having read anything, and closed at once.
        peer.reply(Reply { status: WireStatus::Overloaded, message, ..Reply::default() }).await;
    };
    let (client, ()) = tokio::join!(Client::connect(agent.path()), serve);
    assert_eq!(client.unwrap_err(), ClientError::Overloaded("too many connections".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn reply_without_what_it_must_have_is_an_error() {
    let (_agent, client, mut peer) = Agent::connected().await;
    let (answer, _) = tokio::join!(client.get("k", GetOptions::new()), peer.answer(to));
    assert!(matches!(answer, Err(ClientError::Agent(_))), "{answer:?}");
    let (answer, _) = tokio::join!(client.cluster(), peer.answer(to));
    assert!(matches!(answer, Err(ClientError::Agent(_))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn request_over_the_limit_of_a_frame_is_refused_here_and_the_connection_stays() {
    let (_agent, client, mut peer) = Agent::connected().await;
    let value = serde_bytes::ByteBuf::from(vec![0; crate::limits::CLIENT_FRAME_BYTES]);
    let answer = client.put("k", value, PutOptions::new()).await;
    assert!(matches!(answer, Err(ClientError::TooLarge(_))), "{answer:?}");
    let week = Duration::from_secs(7 * 24 * 3600);
    let answer = client.get("k", GetOptions::new().deadline(week)).await;
    assert!(matches!(answer, Err(ClientError::BadRequest(_))), "{answer:?}");
    let (now, _) = tokio::join!(client.now(), peer.answer(|request| Reply { now: Some(1), ..to(request) }));
    assert_eq!(now, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn blocking_client_inside_a_runtime_is_an_error() {
    let agent = Agent::listen();
    let error = blocking::Client::connect(agent.path()).unwrap_err();
    assert!(matches!(error, ClientError::BadRequest(_)), "{error}");
}

#[test]
fn blocking_client_asks_and_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let agent = Agent { listener: UnixListener::from_std(listener).unwrap(), directory };
            agent.accept().await.answer(entry("v", 7)).await
        })
    });
    let client = blocking::Client::connect(&path).unwrap();
    let entry = client.put("k", "v", PutOptions::new()).unwrap().decided().unwrap();
    assert_eq!((entry.token, entry.value::<String>().unwrap().as_str()), (7, "v"));
    assert_eq!(server.join().unwrap().op, "put");
}

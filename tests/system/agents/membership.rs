//! Agents that must not start, and agents that must not be let in.

use super::cluster::voter;
use super::*;
use std::fs;
use std::path::Path;

/// It refuses to start, with this exit status; what it said meanwhile.
fn refusal(agent: &mut Agent, code: i32) -> String {
    let before = agent.log().len();
    agent.start();
    let status = agent.await_exit();
    let said = agent.log().split_off(before);
    assert_eq!(status.code(), Some(code), "{said}");
    said
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) -> String {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, change(text.clone())).unwrap();
    text
}

#[test]
fn an_agent_whose_file_disagrees_with_its_store_does_not_start_and_prints_both() {
    let mut cluster = Cluster::start(3);
    cluster.agents[1].connect().set(put("k", "v"));
    let more = cluster.agents[0].address.ip();
    let more = voter("d", 4, (more, 7999).into());
    let agent = &mut cluster.agents[0];
    agent.kill();
    let store = "store: cluster \"test\", voters a (id 1), b (id 2), c (id 3)";

    let before = edit(&agent.config, |text| text + &more);
    let said = refusal(agent, 78);
    let file = "file:  cluster \"test\", voters a (id 1), b (id 2), c (id 3), d (id 4)";
    assert!(said.contains(store) && said.contains(file), "{said}");

    fs::write(&agent.config, before.replace("cluster = \"test\"", "cluster = \"other\"")).unwrap();
    let said = refusal(agent, 78);
    assert!(said.contains(store) && said.contains("file:  cluster \"other\", voters a (id 1)"), "{said}");

    fs::write(&agent.config, before.replace("id = 3", "id = 9")).unwrap();
    let said = refusal(agent, 78);
    assert!(said.contains(store) && said.contains("c (id 9)"), "{said}");

    // With the file as it was it is the same agent again.
    fs::write(&agent.config, before).unwrap();
    agent.start();
    assert!(is_there(&mut agent.await_quorum(), "k"));
}

#[test]
fn an_agent_that_lost_its_store_is_refused_and_says_so_and_the_others_serve_on() {
    let mut cluster = Cluster::start(3);
    let mut other = cluster.agents[1].connect();
    other.set(put("k", "v"));
    let agent = &mut cluster.agents[0];
    agent.kill();
    let kept = agent.data_dir.with_extension("kept");
    fs::rename(&agent.data_dir, &kept).unwrap();
    agent.start();

    agent.await_log("it refuses us: its store is not the one with which \"a\" formed this cluster");
    let votes = until("it says why it does not vote", || {
        Some(cluster.agents[0].status("votes")).filter(|text| text.starts_with("no: "))
    });
    assert!(votes.contains("store") || votes.contains("not formed"), "{votes}");
    cluster.agents[1].await_log("peer a: refused: its store is not the one");
    // Its empty acceptor decides nothing, neither here nor there.
    let mut refused = cluster.agents[0].connect();
    assert_eq!(refused.ask(put("k", "another")).status, Status::NoQuorum);
    assert_eq!(refused.ask(get("k")).status, Status::NoQuorum);
    other.set(put("l", "v"));
    assert!(is_there(&mut other, "k"));
    // Nor does it with one of the others down: two empty or unknown votes are no quorum.
    cluster.agents[2].kill();
    until("the quorum is lost", || (other.ask(plain("quorum")).quorum == Some(false)).then_some(()));
    assert_eq!(other.ask(put("m", "v")).status, Status::NoQuorum);

    // The old store is welcome.
    let agent = &mut cluster.agents[0];
    agent.kill();
    fs::remove_dir_all(&agent.data_dir).unwrap();
    fs::rename(&kept, &agent.data_dir).unwrap();
    agent.start();
    assert!(is_there(&mut agent.await_quorum(), "k"));
}

#[test]
fn a_second_agent_on_the_same_data_directory_does_not_start_and_the_first_serves_on() {
    let cluster = Cluster::start(1);
    let mut caller = cluster.agents[0].connect();
    caller.set(put("k", "v"));
    let first = &cluster.agents[0];
    let voters = voter("a", 1, first.address);
    let mut second = Agent::configure(&cluster.dir().join(""), "test", "b", first.address, &voters);
    let data_dir = first.data_dir.clone();
    edit(&second.config, |_| {
        format!("node = \"a\"\ncluster = \"test\"\nsocket = {:?}\ndata_dir = {data_dir:?}\n{voters}", second.socket)
    });
    let said = refusal(&mut second, 71);
    assert!(said.contains(data_dir.to_str().unwrap()), "{said}");

    // Neither on the same socket.
    edit(&second.config, |text| {
        text.replace(second.socket.to_str().unwrap(), first.socket.to_str().unwrap())
            .replace(data_dir.to_str().unwrap(), second.data_dir.to_str().unwrap())
    });
    let said = refusal(&mut second, 71);
    assert!(said.contains("another agent is listening there"), "{said}");
    assert!(is_there(&mut caller, "k"));
    assert!(is_there(&mut first.connect(), "k"));
}

#[test]
fn an_agent_of_another_cluster_at_a_known_address_is_refused() {
    let mut cluster = Cluster::start(3);
    let mut caller = cluster.agents[0].connect();
    caller.set(put("k", "v"));
    cluster.agents[2].kill();
    // The same names, ids and addresses; only the cluster's name is another.
    let other = cluster.dir().join("other");
    fs::create_dir(&other).unwrap();
    let voters: String = (cluster.agents.iter().enumerate()).map(|(i, a)| voter(&a.name, i + 1, a.address)).collect();
    let mut stranger = Agent::configure(&other, "other", "c", cluster.agents[2].address, &voters);
    stranger.start();
    stranger.await_log("it refuses us: another cluster: \"other\", here it is \"test\"");
    cluster.agents[0].await_log("another cluster: \"other\", here it is \"test\"");
    caller.set(put("l", "v"));
    let mut strange = stranger.connect();
    assert_eq!(strange.ask(plain("quorum")).quorum, Some(false));
    assert_eq!(strange.ask(get("k")).status, Status::NoQuorum);
    stranger.kill();
    cluster.agents[2].start();
    assert!(is_there(&mut cluster.agents[2].await_quorum(), "l"));
}

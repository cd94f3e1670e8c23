//! The story: what three agents do when processes and agents die, with what it took.

use super::{Agents, DevError, NAMES, system};
use crate::client::{Answer, Client, ClientError, Entry, GetOptions, NoQuorum, Outcome, Pid, PutOptions};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// How many keys are put while one agent is down.
const PUTS: usize = 200;
/// How many processes are killed to see how fast their keys go.
const HOLDERS: usize = 20;
/// How long a put waits for a quorum that is to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Prints steps and counts those that did not hold.
#[derive(Default)]
struct Story {
    steps: usize,
    failed: usize,
}

impl Story {
    fn chapter(&mut self, title: &str) {
        self.steps += 1;
        println!("\n{}. {title}", self.steps);
    }

    fn check(&mut self, holds: bool, what: impl AsRef<str>) {
        println!("   {} {}", if holds { "ok  " } else { "FAIL" }, what.as_ref());
        self.failed += usize::from(!holds);
    }
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn wrong(e: ClientError) -> DevError {
    DevError::Agent(format!("unexpected: {e}"))
}

fn decided(answer: Answer<Entry>) -> Result<Entry, DevError> {
    answer.decided().map_err(wrong)
}

/// Plays it.
pub(super) async fn play(agents: &mut Agents) -> Result<(), DevError> {
    let mut story = Story::default();
    println!("Three agents on embedded stores, in {}", agents.dir.display());
    start(agents, &mut story).await?;
    let clients = [agents.client(0).await, agents.client(1).await, agents.client(2).await];
    let [a, b, c] = clients.map(|c| c.map_err(wrong));
    let clients = [a?, b?, c?];
    first_wins(&clients, &mut story).await?;
    holder_dies(&clients, &mut story).await?;
    let kept = one_down(agents, &clients, &mut story).await?;
    two_down_and_back(agents, &clients, &mut story, kept).await?;
    println!();
    if story.failed > 0 {
        return Err(DevError::Demo(story.failed));
    }
    println!("Every step held.");
    Ok(())
}

async fn start(agents: &mut Agents, story: &mut Story) -> Result<(), DevError> {
    story.chapter("Start three agents; they find each other and reach a quorum.");
    let began = Instant::now();
    for at in 0..NAMES.len() {
        agents.start(at)?;
    }
    agents.wait_for_quorum().await?;
    story.check(true, format!("all three report a quorum {} after the start", ms(began.elapsed())));
    Ok(())
}

async fn first_wins(clients: &[Client; 3], story: &mut Story) -> Result<(), DevError> {
    story.chapter("Three programs put different values to one key at once, one on each agent.");
    let put = |at: usize, value: &'static str| clients[at].put("leader", value, PutOptions::new());
    let (a, b, c) = tokio::join!(put(0, "alice"), put(1, "bob"), put(2, "carol"));
    let entries = [decided(a.map_err(wrong)?)?, decided(b.map_err(wrong)?)?, decided(c.map_err(wrong)?)?];
    let mut values = Vec::new();
    for (name, entry) in NAMES.iter().zip(&entries) {
        let value: String = entry.value().map_err(wrong)?;
        println!("        agent {name} answers {value}{}", if entry.created { "  (created by this put)" } else { "" });
        values.push(value);
    }
    story.check(values.iter().all(|v| *v == values[0]), "everyone got the same value");
    story.check(entries.iter().filter(|e| e.created).count() == 1, "exactly one put created it");
    Ok(())
}

async fn holder_dies(clients: &[Client; 3], story: &mut Story) -> Result<(), DevError> {
    story.chapter("A process holds a key. It is killed with SIGKILL, and the key goes on every agent.");
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..HOLDERS {
        let mut holder = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(system("cannot start sleep"))?;
        let pid = holder.id().ok_or_else(|| DevError::Agent("sleep ended at once".into()))?;
        let options = PutOptions::new().pid(Pid::Number(pid));
        let entry = decided(clients[0].put("job", "running", options).await.map_err(wrong)?)?;
        if !entry.created {
            story.check(false, "the key of the process before is still there");
            return Ok(());
        }
        let seen = seen_by_all(clients, "job").await?;
        if !seen {
            story.check(false, "not every agent sees the key");
        }
        let killed = Instant::now();
        holder.start_kill().map_err(system("cannot kill"))?;
        let gone = |at: usize| gone_after(&clients[at], "job", killed);
        let (x, y, z) = tokio::join!(gone(0), gone(1), gone(2));
        for (times, time) in times.iter_mut().zip([x?, y?, z?]) {
            times.push(time);
        }
        holder.wait().await.map_err(system("cannot reap"))?;
    }
    for (name, times) in NAMES.iter().zip(&mut times) {
        times.sort();
        let (middle, most) = (times[times.len() / 2], times[times.len() - 1]);
        println!(
            "        agent {name} answers \"not found\" {} after the kill (median of {HOLDERS}; longest {})",
            ms(middle),
            ms(most)
        );
    }
    story.check(true, format!("{HOLDERS} of {HOLDERS} keys went with their process, on all agents"));
    Ok(())
}

async fn seen_by_all(clients: &[Client; 3], key: &str) -> Result<bool, DevError> {
    let mut all = true;
    for client in clients {
        let found = client.get(key, GetOptions::new()).await.map_err(wrong)?;
        all &= found.decided().map_err(wrong)?.is_some();
    }
    Ok(all)
}

async fn gone_after(client: &Client, key: &str, since: Instant) -> Result<Duration, DevError> {
    while since.elapsed() < PATIENCE {
        let found = client.get(key, GetOptions::new()).await.map_err(wrong)?;
        if found.decided().map_err(wrong)?.is_none() {
            return Ok(since.elapsed());
        }
    }
    Err(DevError::Agent(format!("{key} is still there {} after its process was killed", ms(PATIENCE))))
}

/// Puts keys while an agent dies; gives back the keys that were acknowledged.
async fn one_down(agents: &mut Agents, clients: &[Client; 3], story: &mut Story) -> Result<Vec<String>, DevError> {
    story.chapter("One of the three agents is killed with SIGKILL. The others go on.");
    let (mut kept, mut longest) = (Vec::new(), Duration::ZERO);
    for n in 0..PUTS {
        if n == PUTS / 4 {
            agents.kill(2).await;
        }
        let key = format!("order/{n}");
        let began = Instant::now();
        let put = clients[n % 2].put(&key, n, PutOptions::new().no_quorum(NoQuorum::Retry));
        decided(put.await.map_err(wrong)?)?;
        longest = longest.max(began.elapsed());
        kept.push(key);
    }
    story.check(kept.len() == PUTS, format!("{PUTS} of {PUTS} puts acknowledged; the longest took {}", ms(longest)));
    Ok(kept)
}

async fn two_down_and_back(
    agents: &mut Agents,
    clients: &[Client; 3],
    story: &mut Story,
    mut kept: Vec<String>,
) -> Result<(), DevError> {
    story.chapter("A second agent is killed. One of three is no majority: it says so, in the way that was asked for.");
    agents.kill(1).await;
    let a = &clients[0];
    until_quorum_is_lost(a).await?;
    let put = |key: &'static str, mode, deadline| a.put(key, "x", PutOptions::new().no_quorum(mode).deadline(deadline));
    let returned = put("r", NoQuorum::Return, PATIENCE).await.map_err(wrong)?;
    let plain = matches!(returned, Answer::NoQuorum(Outcome::NotSent));
    story.check(plain, "return: an ordinary result, \"no quorum, nothing was sent\"");
    let failed = put("f", NoQuorum::Fail, PATIENCE).await;
    story.check(matches!(failed, Err(ClientError::NoQuorum { .. })), "fail:   an error");
    let short = Duration::from_millis(300);
    let began = Instant::now();
    let gave_up = put("s", NoQuorum::Retry, short).await.map_err(wrong)?;
    let waited = began.elapsed();
    let until_deadline = matches!(gave_up, Answer::NoQuorum(_)) && waited >= short;
    story.check(until_deadline, format!("retry:  waited for its deadline of {}, then \"no quorum\"", ms(short)));

    story.chapter("Both come back. A put that was waiting for a quorum gets through, and nothing is lost.");
    let waiting = a.put("patient", "here", PutOptions::new().no_quorum(NoQuorum::Retry).deadline(PATIENCE));
    let back = async {
        let began = Instant::now();
        agents.start(1)?;
        agents.start(2)?;
        agents.wait_for_quorum().await?;
        Ok::<_, DevError>(began.elapsed())
    };
    let (waiting, back) = tokio::join!(waiting, back);
    story.check(true, format!("all three report a quorum {} after the restart", ms(back?)));
    let entry = decided(waiting.map_err(wrong)?)?;
    story.check(entry.created, "the waiting put was carried out");
    kept.extend(["leader".to_owned(), "patient".to_owned()]);
    let mut missing = 0;
    for client in clients {
        for key in &kept {
            let found = client.get(key, GetOptions::new().no_quorum(NoQuorum::Retry)).await.map_err(wrong)?;
            missing += usize::from(found.decided().map_err(wrong)?.is_none());
        }
    }
    story.check(missing == 0, format!("all {} acknowledged keys are there, read from each of the three", kept.len()));
    Ok(())
}

async fn until_quorum_is_lost(client: &Client) -> Result<(), DevError> {
    let began = Instant::now();
    while client.cluster().await.map_err(wrong)?.quorum {
        if began.elapsed() > PATIENCE {
            return Err(DevError::Agent("the last agent still believes in a quorum".into()));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

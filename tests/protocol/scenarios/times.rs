//! Keys that are bound to a time.

use crate::script::{Script, key};
use paxoskv::node::Mode;
use paxoskv::paxos::{Ballot, RegisterKey};

const DAY_MS: i64 = 86_400_000;

fn set_until(s: &mut Script, k: &RegisterKey, ahead_ms: u64) -> Ballot {
    let mut put = s.new_put(0, k);
    put.until_ms = Some(s.cluster.wall_ms(0) + ahead_ms);
    let call = s.put(0, &put, Mode::Answer);
    s.deliver_all();
    s.put_answer(call).0
}

#[test]
fn key_stays_when_one_clock_of_three_is_a_day_ahead() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let token = set_until(&mut s, &k, 600_000);
    for host in 0..3 {
        s.cluster.hosts[host].site.wall_offset_ms = DAY_MS;
        s.pass_delivering(40_000_000);
        assert_eq!(s.live(&k), Some(token), "one clock, that of host {host}, is no majority");
        s.cluster.hosts[host].site.wall_offset_ms = 0;
    }
    s.end();
}

#[test]
fn key_goes_when_two_clocks_of_three_are_past_its_time() {
    let mut s = Script::new(3);
    let k = key(b'k');
    set_until(&mut s, &k, 600_000);
    for host in [0, 2] {
        s.cluster.hosts[host].site.wall_offset_ms = DAY_MS;
    }
    s.pass_delivering(5_000_000);
    assert_eq!(s.live(&k), None);
    s.end();
}

#[test]
fn key_goes_soon_after_its_time_is_over() {
    for size in [1, 3, 5] {
        let mut s = Script::new(size);
        let k = key(b'k');
        let token = set_until(&mut s, &k, 10_000);
        s.pass_delivering(9_900_000);
        assert_eq!(s.live(&k), Some(token), "{size} voters, before its time");
        s.pass_delivering(2_000_000);
        assert_eq!(s.live(&k), None, "{size} voters, after its time");
        s.end();
    }
}

/// Each clock was once a day ahead for some seconds. An agent that then looks at the key a day later, by a clock that
/// was set right meanwhile, keeps it for a day.
#[test]
fn key_goes_soon_after_its_time_although_each_clock_was_once_ahead() {
    let mut s = Script::new(3);
    let k = key(b'k');
    let token = set_until(&mut s, &k, 60_000);
    for host in 0..3 {
        s.cluster.hosts[host].site.wall_offset_ms = DAY_MS;
        s.pass_delivering(5_000_000);
        s.cluster.hosts[host].site.wall_offset_ms = 0;
        s.pass_delivering(1_000_000);
    }
    assert_eq!(s.live(&k), Some(token), "never more than one clock was past its time");
    s.pass_delivering(120_000_000);
    assert_eq!(s.live(&k), None, "all clocks are past its time for more than a minute");
    s.end();
}

//! What must be so when all is healed and time has passed.

use super::*;

/// How long after an entry's time is over by all clocks it may still be live.
const PAST_MS: u64 = 40_000;

impl Observer {
    /// `clocks_ms` are the hosts' clocks now.
    pub fn at_rest(&mut self, clocks_ms: &[u64]) {
        let slowest_ms = clocks_ms.iter().copied().min().unwrap_or(0);
        for register in self.registers() {
            let Some(entry) = self.live(&register) else { continue };
            if entry.header.bound_process().is_some_and(|p| self.dead.contains(p)) {
                self.object(Check::DeadHoldNothing, brief(&entry));
            }
            if entry.header.until_ms().is_some_and(|until_ms| until_ms + PAST_MS < slowest_ms) {
                self.object(Check::PastTimesGo, format!("{}, by clocks {clocks_ms:?}", brief(&entry)));
            }
        }
        let open: Vec<String> = self
            .calls
            .values()
            .filter(|a| a.answered_us.is_none() && !a.lost)
            .map(|a| format!("{:?}", a.call))
            .collect();
        for call in open {
            self.object(Check::AnsweredOnce, format!("was never answered: {call}"));
        }
    }
}

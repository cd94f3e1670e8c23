//! Ways in which a cluster is broken on purpose, to show that the checks object.

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    Nothing,
    /// Each node believes that it is the only voter.
    QuorumOfOne,
    /// What is committed reaches the disk only some time after it was shown.
    ShownBeforeSynced,
    /// A restart finds the disk as it was some commits ago.
    RolledBackDisk,
    /// A restarted acceptor counts nothing as promised beyond its records.
    NoFloor,
    /// A restarted node draws its ballots from the start again, and follows nobody's counter.
    StaleCounter,
    /// The network mixes up which request a reply is to.
    CrossedReplies,
    /// Nobody is told that a process has exited.
    DeafToExits,
    /// A repeated put does not say that it is one.
    UnmarkedRetries,
    /// A read asks only the own acceptor.
    LocalReads,
    /// Acceptors tell a time that is a day ahead.
    ForwardClocks,
    /// Some answers go to the caller twice.
    TwiceAnswered,
    /// Some answers do not go to the caller.
    NeverAnswered,
}

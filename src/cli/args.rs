//! The command line and its help.

use super::values::{Deadline, PidArg, Until};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const ABOUT: &str = "\
Keys that all hosts of a cluster agree on, and that go when a process exits.

A key is set once. The first `put` wins, on whichever host it is, and every later one is answered with what the \
first one chose. Nobody changes a live key. It ends when what it is bound to ends (a process with --pid, a time with \
--until), or when its holder releases it. That makes a leader, a lock, a registered service, or a decision that is \
made once.

  $ paxoskv put leader alice --pid      # bound to this shell
  alice
  $ paxoskv put leader bob              # the first one wins
  alice
  $ paxoskv holder leader               # which host, process, user; since when
  $ exit                                # and the key is gone on every host

The command asks the agent of this host over a Unix socket. Without a cluster, `paxoskv agent` starts one of a single \
voter to try things out.";

const AFTER: &str = "\
Keys and values:
  Text, as typed. With --json they are JSON: paxoskv --json put '[\"job\",7]' '{\"host\":\"a\",\"n\":1}'
  A VALUE of `-` is the bytes of standard input, `@FILE` those of a file; to put such a text, write it as JSON.
  Standard output has the value and nothing else: a text with a newline, bytes as they are, other things as JSON.
  With --json every answer is one JSON object on one line. Tokens are decimal strings: they exceed 2^53.

Exit status:
   0  done, found           5  not permitted           9  unknown whether the write took effect
   1  not found             6  agent not reachable    10  any other error
   2  usage                 7  no quorum, with `--no-quorum fail`
   3  no quorum             8  over a limit
   4  invalid value: what the key was to be bound to is not there
  Of the agent itself: 71 the system refused something, 74 the store failed, 78 the configuration cannot be used

Environment:
  PAXOSKV_SOCKET  the agent's socket, as --socket (/run/paxoskv.sock); not for an agent with a configuration
  PAXOSKV_BUCKET  the bucket, as --bucket (default)

A key is advice: a process that was stopped for a while may not know that its key has passed on. Give the token to \
the resource that is to be protected, and have it refuse lower ones.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "paxoskv",
    version,
    about = "Keys that all hosts of a cluster agree on, and that go when a process exits",
    long_about = ABOUT,
    after_long_help = AFTER,
    after_help = "`paxoskv --help` tells the story, the exit statuses and the environment.",
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 120
)]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of all commands")]
pub struct Globals {
    /// The agent's socket [env: PAXOSKV_SOCKET] [default: /run/paxoskv.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The bucket of the key [env: PAXOSKV_BUCKET] [default: default]
    #[arg(long = "bucket", global = true, value_name = "BUCKET", env = "PAXOSKV_BUCKET", hide_env = true)]
    pub bucket_name: Option<String>,
    /// Read keys and values as JSON, and answer with one JSON object on one line
    #[arg(long, global = true)]
    pub json: bool,
}

impl Globals {
    /// The socket that the command line names, or else the environment; an empty variable names none.
    ///
    /// Not for an agent that has a configuration: a shell in which the variable points at one agent would otherwise
    /// start every other one on that socket.
    pub fn socket_or_env(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os("PAXOSKV_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
        self.socket.clone().or_else(variable)
    }

    /// The bucket, if one is named. An empty variable of the environment names none.
    pub fn bucket(&self) -> Option<String> {
        self.bucket_name.clone().filter(|name| !name.is_empty())
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Something that an agent answers.
    #[command(flatten)]
    Ask(AskCommand),
    /// Run the agent of this host
    #[command(after_help = AGENT_EXAMPLE)]
    Agent(AgentArgs),
    /// Run three agents on this machine, to try out
    #[command(after_help = DEV_EXAMPLE)]
    Dev(DevArgs),
}

const DEV_EXAMPLE: &str = "\
Three agents as three processes, each with its own store, socket and log, in one folder; Ctrl-C stops them:
  $ paxoskv dev
A story of what they do when processes and agents die, with what it took; exit status 0 only if every step held:
  $ paxoskv dev --demo";

/// Arguments of `dev`.
#[derive(Clone, Debug, Default, Args)]
pub struct DevArgs {
    /// The folder for stores, sockets and logs [default: paxoskv-dev; for the demo a temporary one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Play the story, then stop
    #[arg(long)]
    pub demo: bool,
}

const AGENT_EXAMPLE: &str = "\
Without a configuration it is a cluster of one, for trying out:
  $ paxoskv agent --data-dir /tmp/pkv --socket /tmp/pkv.sock &
  $ paxoskv --socket /tmp/pkv.sock put hello world

It runs until SIGTERM or SIGINT. Exit status: 0 stopped, 71 the system refused something, 74 the store failed (do not \
restart: look at the disk first), 78 the configuration cannot be used.";

/// Arguments of `agent`.
#[derive(Clone, Debug, Default, Args)]
pub struct AgentArgs {
    /// The configuration file; none means a cluster of one, for trying out
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the store is, instead of what the configuration says
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Stop when the process that started it ends
    #[arg(long, hide = true)]
    pub with_parent: bool,
}

/// What an agent answers.
#[derive(Debug, Subcommand)]
pub enum AskCommand {
    /// Set a key unless it is set, and print the chosen value
    #[command(after_help = PUT_EXAMPLE)]
    Put(PutArgs),
    /// Print the value of a key
    #[command(after_help = GET_EXAMPLE)]
    Get(GetArgs),
    /// List the live keys of a bucket, one a line
    #[command(after_help = KEYS_EXAMPLE)]
    Keys(KeysArgs),
    /// Print the node that a key is bound to by name
    #[command(after_help = "Example:\n  $ paxoskv node db/primary\n  host-a")]
    Node(ReadArgs),
    /// Print the process that a key is bound to: its node and its number
    #[command(after_help = "Example:\n  $ read -r node pid < <(paxoskv pid leader)")]
    Pid(ReadArgs),
    /// Tell who set a key: host, process, user, since when, and what it is bound to
    #[command(after_help = "Example:\n  $ paxoskv --json holder '\"leader\"' | jq -r .holder.comm")]
    Holder(ReadArgs),
    /// Print the agent's time, in milliseconds since 1970
    #[command(after_help = "Example:\n  $ paxoskv put pause on --until $(( $(paxoskv now) + 60000 ))")]
    Now,
    /// End a key before its bindings do; only for its holder, or root
    #[command(after_help = RELEASE_EXAMPLE)]
    Release(ReleaseArgs),
    /// Tell what the agent knows about itself and the cluster; exit status 3 without a quorum
    #[command(after_help = "Example:\n  $ paxoskv status")]
    Status,
    /// List the voters and whether there is a quorum; exit status 3 if not
    #[command(after_help = "Example:\n  $ paxoskv cluster > /dev/null || echo 'no quorum, or no agent'")]
    Cluster,
}

const PUT_EXAMPLE: &str = "\
The value that is printed is the chosen one: if another put was first, it is that one's. `--json` tells whether this \
call created it.

--pid binds to the shell or program that calls `paxoskv`, since the command itself is gone in a moment; the key goes \
when that exits. Behind an intermediate program, such as sudo or timeout, it is that program, and in a subshell it \
may be the subshell: then give the number, --pid=$$ in a shell. A number needs the `=`. The process must be of the \
same user, unless root asks.

Examples:
  $ paxoskv put leader \"$HOSTNAME\" --pid              # this shell, or this script, leads
  $ paxoskv put backup/2026-11-23 done --until +1d     # once a day, on one host
  $ paxoskv put web/a @config.json --pid=$(cat web.pid)
  $ paxoskv --json put '\"leader\"' '\"alice\"' | jq .created";

const GET_EXAMPLE: &str = "\
Examples:
  $ paxoskv get leader
  alice
  $ paxoskv get --quiet maintenance && exit 0    # is it set?
  $ paxoskv get greeting --default hello         # never the default when there is no quorum";

const KEYS_EXAMPLE: &str = "\
A key that is no text is shown as JSON; so is a text with control characters. `--json` tells them apart.

Example:
  $ paxoskv keys services";

const RELEASE_EXAMPLE: &str = "\
Its holder is the same process, or the same user on the same host. Exit status 1 if there is nothing to release.

Example:
  $ paxoskv release leader
  $ paxoskv release leader --token 281474976710657     # this entry, and no later one";

/// What to do without a quorum, as it is typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NoQuorumArg {
    /// Say so: exit status 3, and with --json an ordinary answer
    #[default]
    Return,
    /// Fail: exit status 7, and nothing on standard output
    Fail,
    /// Wait for one until the deadline; then as `return`
    Retry,
}

/// Options of the commands that need a quorum.
#[derive(Clone, Debug, Default, Args)]
pub struct QuorumArgs {
    /// What to do without a quorum
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub no_quorum: NoQuorumArg,
    /// How long it may take: 500ms, 5s, 2m; at most 1d [default: 10s; with `retry` 1d]
    #[arg(long, value_name = "DURATION")]
    pub deadline: Option<Deadline>,
}

/// Arguments of `put`.
#[derive(Clone, Debug, Args)]
pub struct PutArgs {
    /// The key
    #[arg(value_name = "KEY")]
    pub key: String,
    /// The value: text, `-` for standard input, `@FILE`; JSON with --json
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    pub value: String,
    /// Bind to a process: the calling shell or program, or with a number (--pid=PID) that one
    #[arg(long, value_name = "PID", num_args = 0..=1, require_equals = true, default_missing_value = "caller")]
    pub pid: Option<PidArg>,
    /// Expire at this time, in ms since 1970; or after +500ms, +30s, +5m, +2h, +1d
    #[arg(long, value_name = "MS|+DURATION")]
    pub until: Option<Until>,
    /// Bind to a node by its name
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Bind to another key, of the same bucket; `BUCKET/KEY` of another
    #[arg(long = "key", value_name = "KEY", id = "parent")]
    pub parent: Option<String>,
    /// Without a quorum
    #[command(flatten)]
    pub quorum: QuorumArgs,
}

/// Arguments of `get`.
#[derive(Clone, Debug, Args)]
pub struct GetArgs {
    /// The key
    #[arg(value_name = "KEY")]
    pub key: String,
    /// What to print if the key is not set; the exit status is then 0
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true)]
    pub default: Option<String>,
    /// Print nothing: the exit status tells whether the key is set
    #[arg(long, short, conflicts_with = "default")]
    pub quiet: bool,
    /// Ask this host's store only: works without a quorum, perhaps outdated, perhaps never chosen
    #[arg(long)]
    pub local: bool,
    /// Without a quorum
    #[command(flatten)]
    pub quorum: QuorumArgs,
}

/// Arguments of the other commands that read a key.
#[derive(Clone, Debug, Args)]
pub struct ReadArgs {
    /// The key
    #[arg(value_name = "KEY")]
    pub key: String,
    /// Without a quorum
    #[command(flatten)]
    pub quorum: QuorumArgs,
}

/// Arguments of `keys`.
#[derive(Clone, Debug, Args)]
pub struct KeysArgs {
    /// The bucket, instead of that of --bucket
    #[arg(value_name = "BUCKET", id = "listed")]
    pub bucket: Option<String>,
    /// Without a quorum
    #[command(flatten)]
    pub quorum: QuorumArgs,
}

/// Arguments of `release`.
#[derive(Clone, Debug, Args)]
pub struct ReleaseArgs {
    /// The key
    #[arg(value_name = "KEY")]
    pub key: String,
    /// Only the entry with this token, and no later one
    #[arg(long)]
    pub token: Option<u64>,
    /// Without a quorum
    #[command(flatten)]
    pub quorum: QuorumArgs,
}

//! The command: what its arguments mean, and what it prints.
//!
//! Its habits: nothing but the value on standard output; everything else on standard error, as `paxoskv: …`, saying
//! what to do; an exit status of its own for everything that a script does differently ([`Exit`]).
//!
//! * [`args`]: the arguments and their help
//! * [`exit`]: exit statuses, and what leads to which
//! * `values`: keys, values and times, as they are typed
//! * `ask`: the commands that ask an agent
//! * `print`: what they print
//! * `service`: the command that is the agent

pub mod args;
mod ask;
pub mod exit;
mod print;
mod service;
#[cfg(test)]
mod tests;
mod values;

pub use args::{AgentArgs, AskCommand, Cli, Command, DevArgs, Globals};
pub use exit::{Exit, Failure};
pub use service::{dev, serve};

use crate::client::Client;
use std::io::Write;
use std::path::PathBuf;

/// Where the agent listens, if neither the command line nor the environment says.
const DEFAULT_SOCKET: &str = "/run/paxoskv.sock";

/// Runs a command that asks an agent.
///
/// # Errors
/// Whatever keeps it from an answer; [`report`] tells it.
pub fn run(globals: &Globals, command: AskCommand) -> Result<Exit, Failure> {
    // Everything that can be wrong with the arguments is found before there is a connection.
    let question = values::Question::read(globals, command)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Other, format!("cannot begin: {e}")))?;
    let answer = runtime.block_on(async {
        let socket = globals.socket_or_env().unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET));
        let client = Client::connect(socket).await?;
        ask::ask(&client, question, globals.json).await
    })?;
    answer.print()
}

/// Says on standard error why a command has no answer, and gives its exit status.
pub fn report(failure: &Failure) -> Exit {
    // Nobody may be listening, and there is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "paxoskv: {failure}");
    failure.exit
}

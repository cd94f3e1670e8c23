//! `paxoskv agent`: from its arguments to a running agent, and from its end to an exit status.

use super::args::{AgentArgs, DevArgs, Globals};
use super::exit::{Exit, Failure};
use crate::agent::AgentError;
use crate::config::Config;
use crate::dev;
use crate::server;
use crate::storage::StoreError;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Runs the agent of this host until it is told to stop.
///
/// # Errors
/// Why it could not start, or had to end.
pub fn serve(globals: &Globals, args: AgentArgs) -> Result<Exit, Failure> {
    if args.with_parent {
        // A parent that has already ended leaves an agent that its operator has to stop.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    }
    let mut config = match &args.config {
        Some(path) => Config::load(path).map_err(|e| Failure::new(Exit::Configuration, e.to_string()))?,
        None => Config::single(),
    };
    if let Some(data_dir) = args.data_dir {
        config.data_dir = data_dir;
    }
    let socket = if config.trying_out { globals.socket_or_env() } else { globals.socket.clone() };
    if let Some(socket) = socket {
        config.socket = socket;
    }
    // RUST_LOG chooses what is logged; a filter that cannot be read counts as none.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // Fails only where there is a log already, which then serves.
    let _ = log.try_init();
    server::run(config).map(|()| Exit::Ok).map_err(Failure::from)
}

/// Runs three agents on this machine.
///
/// # Errors
/// Why they could not run, or what did not hold.
pub fn dev(args: DevArgs) -> Result<Exit, Failure> {
    let args = dev::DevArgs { dir: args.dir, demo: args.demo };
    dev::run(args).map(|()| Exit::Ok).map_err(|e| Failure::new(Exit::Other, e.to_string()))
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        let exit = match &error {
            // Another agent can be stopped, and room can be made: then a new start is right.
            AgentError::Store(StoreError::Locked(_) | StoreError::NoSpace(_)) => Exit::System,
            AgentError::Store(StoreError::Damaged(_) | StoreError::Failed { .. }) => Exit::StorageFailed,
            AgentError::Config(_) => Exit::Configuration,
            AgentError::System { .. } | AgentError::Process(_) => Exit::System,
        };
        Failure::new(exit, format!("the agent ends: {error}"))
    }
}

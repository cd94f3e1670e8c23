//! The Unix socket on which applications are served.
//!
//! It runs on a thread and runtime of its own: closing a descriptor that a stranger has passed along can take as long
//! as the stranger likes, inside any read from the socket, and that must hold up neither heartbeats nor consensus.

mod connection;
mod stream;
mod translate;

use crate::agent::{self, AgentError, AgentHandle};
use crate::config::Config;
use crate::limits::{CLIENTS, DRAIN_MS};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

/// Runs an agent with this configuration until SIGTERM or SIGINT, then stops it: no new connections, operations under
/// way finish within [`DRAIN_MS`], then the store is closed.
///
/// # Errors
/// Why it could not start, or had to end: see [`AgentError`].
pub fn run(config: Config) -> Result<(), AgentError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |cause| AgentError::System { what, cause }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed("cannot start the runtime"))?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(failed("cannot listen for SIGTERM"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("cannot listen for SIGINT"))?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        agent::run(config, stop, start).await
    })
}

/// Binds the socket and serves on a thread of its own. What is returned stops it: it accepts no more, lets operations
/// under way finish within [`DRAIN_MS`], and removes the socket.
fn start(agent: AgentHandle) -> Result<Box<dyn FnOnce() + Send>, AgentError> {
    let path = agent.config.socket.clone();
    let failed = |cause| AgentError::System { what: format!("cannot serve on {}", path.display()), cause };
    let listener = bind(&path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (stop, stopping) = watch::channel(false);
    info!("serving applications on {}", path.display());
    let at = path.clone();
    let thread = std::thread::Builder::new()
        .name("server".into())
        .spawn(move || {
            runtime.block_on(serve(listener, agent, stopping));
            // Tasks that are still there are stuck in a client; they end with the runtime.
            runtime.shutdown_background();
            remove(&at);
        })
        .map_err(failed)?;
    Ok(Box::new(move || {
        let _ = stop.send(true);
        let _ = thread.join();
    }))
}

/// Binds the socket: only the agent's user and group may connect. A socket that nobody listens on is left over from an
/// agent that was killed, and is replaced.
fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent is listening there")),
            Err(_) => std::fs::remove_file(path)?,
        },
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else than a socket")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(|e| {
        let hint = "choose another place with --socket or `socket` in the configuration";
        io::Error::new(e.kind(), format!("{e}; {hint}"))
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

fn remove(path: &PathBuf) {
    if let Err(e) = std::fs::remove_file(path) {
        warn!("cannot remove {}: {e}", path.display());
    }
}

async fn serve(listener: std::os::unix::net::UnixListener, agent: AgentHandle, mut stopping: watch::Receiver<bool>) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => return warn!("cannot serve: {e}"),
    };
    let permits = Arc::new(Semaphore::new(CLIENTS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            _ = stopping.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let permit = permits.clone().try_acquire_owned().ok();
                connections.spawn(connection::run(stream, agent.clone(), permit, stopping.clone()));
            }
            // Out of descriptors, most likely: whoever is connected is served, newcomers wait in the backlog.
            Err(e) => {
                warn!("cannot accept a connection: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_millis(DRAIN_MS), drained).await;
}

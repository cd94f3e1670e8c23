//! The configuration: one TOML file, checked whole before anything is opened or bound.

use crate::limits::{DRIFT_PERCENT, LEASE_MS, NODE_TIMEOUT_MS, VOTERS};
use crate::paxos::{Membership, NodeId, Voter};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_128;

/// Where the agent listens for applications unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/paxoskv.sock";

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This agent's numeric id.
    pub me: NodeId,
    /// This agent's name.
    pub node: String,
    /// The cluster's name.
    pub cluster: String,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// Where applications connect.
    pub socket: PathBuf,
    /// The voters, this agent among them.
    pub membership: Membership,
    /// Where each voter listens for its peers; none in a cluster of one.
    pub addresses: Vec<(NodeId, SocketAddr)>,
    /// The kind of store.
    pub backend: Backend,
    /// Whether unauthenticated peers beyond loopback are allowed.
    pub insecure_peers: bool,
    /// Whether this is a cluster of one that nobody configured.
    pub trying_out: bool,
}

/// The kinds of store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The embedded store on disk.
    #[default]
    Sled,
    /// Nothing survives: for tests.
    Memory,
}

/// The file says something that cannot be, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is not what a configuration looks like; the text names line and field.
    #[error("{path}: {text}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        text: String,
    },
    /// A field has a value that cannot be.
    #[error("{path}: `{field}`: {text}")]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What is wrong, and what would be right.
        text: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    node: String,
    cluster: String,
    data_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
    #[serde(default)]
    insecure_peers: bool,
    #[serde(default)]
    storage: FileStorage,
    #[serde(default)]
    voter: Vec<FileVoter>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileStorage {
    #[serde(default)]
    backend: Backend,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileVoter {
    name: String,
    id: u16,
    address: Option<String>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`], with the file, the line or field, and what would be right.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
        Config::parse(path, &text)
    }

    /// Checks the text of a file; `path` is for messages only.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let file: File = toml::from_str(text)
            .map_err(|e| ConfigError::Malformed { path: path.to_owned(), text: e.to_string().trim_end().to_owned() })?;
        let wrong = |field, text: String| ConfigError::Field { path: path.to_owned(), field, text };
        check_name("node", &file.node).map_err(|text| wrong("node", text))?;
        check_name("cluster", &file.cluster).map_err(|text| wrong("cluster", text))?;
        let voters = check_voters(&file.voter).map_err(|text| wrong("voter", text))?;
        let Some(me) = voters.iter().find(|v| v.name == file.node).map(|v| v.id) else {
            let names: Vec<_> = voters.iter().map(|v| v.name.as_str()).collect();
            return Err(wrong("node", format!("\"{}\" is not one of the voters ({})", file.node, names.join(", "))));
        };
        let addresses =
            check_addresses(&file.voter, file.insecure_peers).map_err(|text| wrong("voter.address", text))?;
        Ok(Config {
            me,
            node: file.node,
            cluster: file.cluster,
            data_dir: file.data_dir.unwrap_or_else(default_data_dir),
            socket: file.socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
            membership: Membership::new(1, voters),
            addresses,
            backend: file.storage.backend,
            insecure_peers: file.insecure_peers,
            trying_out: false,
        })
    }

    /// A cluster of one, for trying out: no file, no peers.
    pub fn single() -> Config {
        let (me, node) = (NodeId(1), "local".to_owned());
        Config {
            me,
            node: node.clone(),
            cluster: "local".into(),
            data_dir: default_data_dir(),
            socket: DEFAULT_SOCKET.into(),
            membership: Membership::new(1, vec![Voter { id: me, name: node }]),
            addresses: Vec::new(),
            backend: Backend::Sled,
            insecure_peers: false,
            trying_out: true,
        }
    }

    /// The id of the cluster: a hash of its name and its voters.
    pub fn cluster_id(&self) -> [u8; 16] {
        let mut text = format!("cluster {}\n", self.cluster);
        for v in &self.membership.voters {
            text.push_str(&format!("voter {} {}\n", v.id, v.name));
        }
        xxh3_128(text.as_bytes()).to_be_bytes()
    }

    /// A hash of what all agents of the cluster must agree on: the membership and the timings of leases.
    pub fn membership_digest(&self) -> [u8; 16] {
        let mut text = format!("epoch {}\n", self.membership.epoch);
        for v in &self.membership.voters {
            text.push_str(&format!("voter {} {}\n", v.id, v.name));
        }
        text.push_str(&format!("lease {LEASE_MS}\nnode_timeout {NODE_TIMEOUT_MS}\ndrift {DRIFT_PERCENT}\n"));
        xxh3_128(text.as_bytes()).to_be_bytes()
    }

    /// Where a voter listens.
    pub fn address(&self, node: NodeId) -> Option<SocketAddr> {
        self.addresses.iter().find(|(id, _)| *id == node).map(|(_, address)| *address)
    }
}

/// `/var/lib/paxoskv` for root, `~/.local/state/paxoskv` for others.
fn default_data_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return "/var/lib/paxoskv".into();
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/state"));
    state.or_else(home).unwrap_or_else(|| ".".into()).join("paxoskv")
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(format!("a {what} name has 1 to 64 letters, digits, '-', '_' or '.', not \"{name}\""));
    }
    Ok(())
}

fn check_voters(file: &[FileVoter]) -> Result<Vec<Voter>, String> {
    if file.is_empty() || file.len() > VOTERS {
        return Err(format!("a cluster has 1 to {VOTERS} voters, each a [[voter]] table; here are {}", file.len()));
    }
    let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
    for v in file {
        check_name("voter", &v.name)?;
        if v.id == 0 || v.id == u16::MAX {
            return Err(format!("the id of \"{}\" is {}; ids go from 1 to 65534", v.name, v.id));
        }
        if !ids.insert(v.id) || !names.insert(&v.name) {
            return Err(format!("voter {} \"{}\": another has the same id or name", v.id, v.name));
        }
    }
    Ok(file.iter().map(|v| Voter { id: NodeId(v.id), name: v.name.clone() }).collect())
}

fn check_addresses(file: &[FileVoter], insecure: bool) -> Result<Vec<(NodeId, SocketAddr)>, String> {
    if file.len() == 1 {
        return Ok(Vec::new());
    }
    let mut addresses: Vec<(NodeId, SocketAddr)> = Vec::new();
    for v in file {
        let text = v
            .address
            .as_deref()
            .ok_or(format!("voter \"{}\" has none; give one such as \"127.0.0.1:7400\"", v.name))?;
        let address: SocketAddr =
            text.parse().map_err(|_| format!("\"{text}\" is not IP:PORT (IPv6 in brackets: \"[::1]:7400\")"))?;
        if address.port() == 0 {
            return Err(format!("\"{text}\": the port cannot be 0"));
        }
        if !address.ip().is_loopback() && !insecure {
            return Err(format!(
                "{address} is not a loopback address, and peers cannot authenticate each other without certificates; \
                 set insecure_peers = true only in a network where nobody else can connect"
            ));
        }
        if addresses.iter().any(|(_, other)| *other == address) {
            return Err(format!("{address} is given to two voters"));
        }
        addresses.push((NodeId(v.id), address));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str = r#"
        node = "b"
        cluster = "test"
        data_dir = "/d"
        socket = "/s"
        [[voter]]
        name = "a"
        id = 1
        address = "127.0.0.1:7401"
        [[voter]]
        name = "b"
        id = 2
        address = "127.0.0.1:7402"
        [[voter]]
        name = "c"
        id = 3
        address = "[::1]:7403"
    "#;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("p.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn config_of_three_is_read() {
        let c = parse(THREE).unwrap();
        assert_eq!((c.me, c.membership.voters.len(), c.addresses.len()), (NodeId(2), 3, 3));
        assert_eq!(c.backend, Backend::Sled);
    }

    #[test]
    fn config_errors_name_the_field_and_what_would_be_right() {
        let cases = [
            (THREE.replace("node = \"b\"", "node = \"z\""), "not one of the voters (a, b, c)"),
            (THREE.replace("id = 3", "id = 2"), "same id or name"),
            (THREE.replace("id = 3", "id = 0"), "1 to 65534"),
            (THREE.replace("127.0.0.1:7402", "10.0.0.1:7402"), "insecure_peers"),
            (THREE.replace("127.0.0.1:7402", "localhost"), "IP:PORT"),
            (THREE.replace("127.0.0.1:7402", "127.0.0.1:7401"), "given to two voters"),
            (THREE.replace("socket =", "sokcet ="), "sokcet"),
            ("node = \"a\"\ncluster = \"c\"".into(), "1 to 9 voters"),
            (THREE.replace("cluster = \"test\"", "cluster = 7"), "line 3"),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected) && error.contains("p.toml"), "{error}");
        }
    }

    #[test]
    fn cluster_id_depends_on_name_and_voters_but_not_on_addresses() {
        let id = |text: &str| parse(text).unwrap().cluster_id();
        assert_eq!(id(THREE), id(&THREE.replace("7403", "7499")));
        assert_ne!(id(THREE), id(&THREE.replace("\"test\"", "\"other\"")));
        assert_ne!(id(THREE), id(&THREE.replace("id = 3", "id = 4")));
    }
}

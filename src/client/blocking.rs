//! The client for programs without an async runtime.
//!
//! ```no_run
//! use paxoskv::client::{PutOptions, blocking::Client};
//!
//! # fn example() -> Result<(), paxoskv::client::ClientError> {
//! let client = Client::connect("/run/paxoskv.sock")?;
//! let entry = client.put("leader", "alice", PutOptions::new().own_pid())?.decided()?;
//! println!("{} leads", entry.value::<String>()?);
//! # Ok(())
//! # }
//! ```

use super::{
    Answer, ClientError, Cluster, ConnectOptions, Entry, GetOptions, HolderInfo, Keys, KeysOptions, Process,
    PutOptions, ReleaseOptions, Status,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::{Builder, Handle, Runtime};

/// As [`super::Client`], but its operations block the calling thread until they are answered. Clones share the
/// connection, and may be used from several threads at once. Not for use inside an async runtime: there, each
/// operation is an error.
#[derive(Clone, Debug)]
pub struct Client {
    client: super::Client,
    own: Arc<Own>,
}

/// The private runtime.
#[derive(Debug)]
struct Own(Option<Runtime>);

impl Own {
    fn run<T>(&self, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        if Handle::try_current().is_ok() {
            let why = "the blocking client cannot be used inside an async runtime: use `paxoskv::client::Client`";
            return Err(ClientError::BadRequest(why.to_owned()));
        }
        match &self.0 {
            Some(runtime) => runtime.block_on(work),
            None => Err(ClientError::NotReachable("the client is being dropped".to_owned())),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // The ordinary drop of a runtime may not happen inside another.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Client {
    /// As [`super::Client::connect`].
    ///
    /// # Errors
    /// The same.
    pub fn connect(path: impl AsRef<Path>) -> Result<Client, ClientError> {
        Client::connect_with(path, ConnectOptions::default())
    }

    /// As [`super::Client::connect_with`].
    ///
    /// # Errors
    /// The same.
    pub fn connect_with(path: impl AsRef<Path>, options: ConnectOptions) -> Result<Client, ClientError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| ClientError::NotReachable(format!("no runtime for the client: {e}")))?;
        let own = Own(Some(runtime));
        let client = own.run(super::Client::connect_with(path, options))?;
        Ok(Client { client, own: Arc::new(own) })
    }

    /// As [`super::Client::put`].
    ///
    /// # Errors
    /// The same.
    pub fn put(
        &self,
        key: impl Serialize,
        value: impl Serialize,
        options: PutOptions,
    ) -> Result<Answer<Entry>, ClientError> {
        self.own.run(self.client.put(key, value, options))
    }

    /// As [`super::Client::put_item`].
    ///
    /// # Errors
    /// The same.
    pub fn put_item(&self, key: Vec<u8>, value: Vec<u8>, options: PutOptions) -> Result<Answer<Entry>, ClientError> {
        self.own.run(self.client.put_item(key, value, options))
    }

    /// As [`super::Client::get`].
    ///
    /// # Errors
    /// The same.
    pub fn get(&self, key: impl Serialize, options: GetOptions) -> Result<Answer<Option<Entry>>, ClientError> {
        self.own.run(self.client.get(key, options))
    }

    /// As [`super::Client::get_item`].
    ///
    /// # Errors
    /// The same.
    pub fn get_item(&self, key: Vec<u8>, options: GetOptions) -> Result<Answer<Option<Entry>>, ClientError> {
        self.own.run(self.client.get_item(key, options))
    }

    /// As [`super::Client::get_or`].
    ///
    /// # Errors
    /// The same.
    pub fn get_or<T: DeserializeOwned>(
        &self,
        key: impl Serialize,
        default: T,
        options: GetOptions,
    ) -> Result<Answer<T>, ClientError> {
        self.own.run(self.client.get_or(key, default, options))
    }

    /// As [`super::Client::pid`].
    ///
    /// # Errors
    /// The same.
    pub fn pid(&self, key: impl Serialize, options: GetOptions) -> Result<Answer<Option<Process>>, ClientError> {
        self.own.run(self.client.pid(key, options))
    }

    /// As [`super::Client::node`].
    ///
    /// # Errors
    /// The same.
    pub fn node(&self, key: impl Serialize, options: GetOptions) -> Result<Answer<Option<String>>, ClientError> {
        self.own.run(self.client.node(key, options))
    }

    /// As [`super::Client::holder`].
    ///
    /// # Errors
    /// The same.
    pub fn holder(&self, key: impl Serialize, options: GetOptions) -> Result<Answer<Option<HolderInfo>>, ClientError> {
        self.own.run(self.client.holder(key, options))
    }

    /// As [`super::Client::release`].
    ///
    /// # Errors
    /// The same.
    pub fn release(&self, key: impl Serialize, options: ReleaseOptions) -> Result<Answer<Option<u64>>, ClientError> {
        self.own.run(self.client.release(key, options))
    }

    /// As [`super::Client::release_item`].
    ///
    /// # Errors
    /// The same.
    pub fn release_item(&self, key: Vec<u8>, options: ReleaseOptions) -> Result<Answer<Option<u64>>, ClientError> {
        self.own.run(self.client.release_item(key, options))
    }

    /// As [`super::Client::keys`].
    ///
    /// # Errors
    /// The same.
    pub fn keys(&self, options: KeysOptions) -> Result<Keys, ClientError> {
        self.own.run(self.client.keys(options))
    }

    /// As [`super::Client::now`].
    ///
    /// # Errors
    /// The same.
    pub fn now(&self) -> Result<u64, ClientError> {
        self.own.run(self.client.now())
    }

    /// As [`super::Client::cluster`].
    ///
    /// # Errors
    /// The same.
    pub fn cluster(&self) -> Result<Cluster, ClientError> {
        self.own.run(self.client.cluster())
    }

    /// As [`super::Client::status`].
    ///
    /// # Errors
    /// The same.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.own.run(self.client.status())
    }
}

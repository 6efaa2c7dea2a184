//! The quick start as a user of the cluster: it reads, writes and asks for the status.

use anyhow::{Context, Result};
use bytes::Bytes;
use tandem::client::{Client, ClientOptions, Session};
use tandem::config::ClusterConfig;
use tandem::protocol::meta::Status;
use tandem_local::{CLIENT, status};

/// A client of the cluster; clones share its connections.
#[derive(Clone)]
pub struct Data {
    client: Client,
    session: Session,
}

impl Data {
    /// Starts a client; the cluster need not be up yet.
    ///
    /// # Errors
    /// Its certificate can not be used.
    pub fn start(config: &ClusterConfig) -> Result<Data> {
        let client = Client::connect(ClientOptions::from_config(config, CLIENT)?)?;
        let session = client.session();
        Ok(Data { client, session })
    }

    /// The metaserver's own account of the cluster.
    ///
    /// # Errors
    /// The metaserver does not answer.
    pub async fn status(&self) -> Result<Status> {
        status::ask(&self.client).await
    }

    /// The value of a key, none if it is absent.
    ///
    /// # Errors
    /// The cluster could not answer in time.
    pub async fn read(&self, key: &Bytes) -> Result<Option<Bytes>> {
        let read = self.session.get(key.clone()).await.context("reading back")?;
        Ok(read.item.map(|it| it.value))
    }

    /// Stores a value.
    ///
    /// # Errors
    /// It was not stored, or it is unknown whether it was.
    pub async fn write(&self, key: Bytes, value: Bytes) -> Result<()> {
        self.session.put(key, value).await.context("storing")?;
        Ok(())
    }
}

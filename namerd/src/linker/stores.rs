//! The store that a config asks for.
//!
//! Called by `linker`. Not for: what a store does.

use crate::config::{BackendParams, StorageParams};
use crate::storage::consul::{self, ConsulParams};
use crate::storage::etcd::{self, EtcdApi, EtcdParams};
use crate::storage::local::{self, LocalError, LocalStore};
use crate::storage::memory::{self, MemoryStore};
use crate::storage::zk::{self, ZkAcl, ZkAuth, ZkParams};
use crate::storage::{Endpoint, Retention, Store};
use setup::naming::World;
use setup::secure::secure;
use std::path::PathBuf;
use std::sync::Arc;
use tls::TlsError;

/// Why there is no store. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The local one cannot be opened.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// Certificates or keys cannot be used; a check of the config would have said so.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The parameters make no sense together.
    #[error("{0}")]
    Params(String),
    /// Opening it has failed in a way that it did not foresee.
    #[error("opening it ended early: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// Opens the store.
pub(super) async fn open(params: &StorageParams, world: &World) -> Result<Arc<dyn Store>, StorageError> {
    match params {
        StorageParams::Local { path, history } => local(path.clone(), *history, world).await,
        StorageParams::Memory(namespaces) => {
            let namespaces = namespaces.iter().cloned().collect();
            Ok(Arc::new(MemoryStore::new(namespaces, memory::RETENTION)))
        }
        StorageParams::Etcd { backend, api } => {
            let api = match api {
                Some(2) => EtcdApi::V2,
                Some(_) => EtcdApi::V3,
                None => EtcdApi::Auto,
            };
            let endpoints = endpoints(backend, world)?;
            let params = EtcdParams { path_prefix: backend.path_prefix.clone(), api, ..EtcdParams::new(endpoints) };
            Ok(etcd::open(params, &world.discovery))
        }
        StorageParams::Consul { backend, .. } => {
            let endpoints = endpoints(backend, world)?;
            Ok(consul::open(consul_params(params, backend, endpoints), &world.discovery))
        }
        StorageParams::Zk { addresses, path_prefix, session_timeout, auth, acls } => {
            let params = ZkParams {
                path_prefix: path_prefix.clone(),
                session_timeout: *session_timeout,
                auth: auth.clone().map(|(scheme, auth)| ZkAuth { scheme, auth }),
                acls: acls.iter().cloned().map(|(scheme, id, perms)| ZkAcl { scheme, id, perms }).collect(),
                ..ZkParams::new(addresses.clone())
            };
            zk::open(&params, &world.discovery).map_err(StorageError::Params)
        }
    }
}

/// Reads the whole file, so not on a thread that serves.
async fn local(path: PathBuf, history: usize, world: &World) -> Result<Arc<dyn Store>, StorageError> {
    let handle = world.discovery.handle.clone();
    let entries = u64::try_from(history).unwrap_or(u64::MAX);
    let retention = Retention { entries, ..local::RETENTION };
    let opening = tokio::task::spawn_blocking(move || LocalStore::open(path, retention, handle));
    Ok(Arc::new(opening.await??))
}

fn consul_params(params: &StorageParams, backend: &BackendParams, endpoints: Vec<Endpoint>) -> ConsulParams {
    let mut made = ConsulParams { path_prefix: backend.path_prefix.clone(), ..ConsulParams::new(endpoints) };
    if let StorageParams::Consul {
        token, datacenter, read_consistency, write_consistency, fail_fast, backoff, ..
    } = params
    {
        made.token.clone_from(token);
        made.datacenter.clone_from(datacenter);
        made.read_consistency = *read_consistency;
        made.write_consistency = *write_consistency;
        made.fail_fast = *fail_fast;
        made.backoff = *backoff;
    }
    made
}

fn endpoints(backend: &BackendParams, world: &World) -> Result<Vec<Endpoint>, StorageError> {
    let secure = backend.tls.as_ref().map(|tls| secure(tls, Vec::new(), &world.tls)).transpose()?;
    let endpoint = |(host, port): &(String, u16)| Endpoint { host: host.clone(), port: *port, secure: secure.clone() };
    Ok(backend.endpoints.iter().map(endpoint).collect())
}

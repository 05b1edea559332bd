//! The administrative server of a process, as its config has it, and the upkeep of what its pages show.
//!
//! For: the start of router and namerd. Not for: which pages there are.

use crate::config::params::{AdminParams, SecurityParams};
use crate::{handshakes, listen, tokens};
use admin::{HostCheck, LivePages, PathMatcher, Security};
use namers::Discovery;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use telemetry::{ControlMetrics, Metrics};
use tls::{ServerTls, Tls, TlsError};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Control metrics are kept up this often.
const UPKEEP: Duration = Duration::from_secs(5);
/// Gauges of discovery are set this often.
const SHOW: Duration = Duration::from_secs(1);

/// Why there is no administrative server. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be had.
    #[error("cannot listen on {address} for the admin server: {error}. {}", crate::listen::advice(error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// Its certificate or key cannot be used; a check of the config would have said so.
    #[error("TLS of the admin server: {0}")]
    Tls(#[from] TlsError),
}

/// Listens already, and answers nothing yet.
pub struct AdminSocket {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerTls>>,
}

/// Dropping the first part lets the server end; the second ends with it.
pub type Serving = (oneshot::Sender<()>, JoinHandle<()>);

impl AdminSocket {
    /// Listens where `params` says.
    pub fn open(params: &AdminParams, tls: &Tls) -> Result<AdminSocket, AdminError> {
        let tls = params.tls.as_ref().map(|params| tls.server(params)).transpose()?;
        let wanted = SocketAddr::new(params.ip, params.port);
        let opened = listen::listen_once(wanted, &params.socket).and_then(|socket| {
            let address = socket.local_addr()?;
            Ok((TcpListener::from_std(socket)?, address))
        });
        let (listener, address) = opened.map_err(|error| AdminError::Listen { address: wanted, error })?;
        Ok(AdminSocket { listener, address, tls })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with these pages, which may be replaced, on `handle`.
    pub fn serve(self, params: &AdminParams, pages: Arc<LivePages>, handle: &Handle) -> Serving {
        // A loopback admin must not be reachable by way of a browser; one that was opened is asked for by any name.
        let hosts = if params.ip.is_loopback() { HostCheck::default() } else { HostCheck::new(["*"]) };
        let (close, closed) = oneshot::channel::<()>();
        let closing = async move { _ = closed.await };
        let security = security(&params.security);
        let task = match self.tls {
            None => handle.spawn(admin::serve(self.listener, pages, security, hosts, closing)),
            Some(tls) => {
                let secure = move |socket| handshakes::accept("admin", tls.clone(), socket);
                handle.spawn(admin::serve_over(secure, self.listener, pages, security, hosts, closing))
            }
        };
        (close, task)
    }
}

fn security(params: &SecurityParams) -> Security {
    let matchers = |list: &[regex::Regex]| -> Vec<PathMatcher> {
        let matcher = |regex: &regex::Regex| -> PathMatcher {
            let regex = regex.clone();
            Arc::new(move |path: &str| regex.is_match(path))
        };
        list.iter().map(matcher).collect()
    };
    Security {
        ui: params.ui,
        control: params.control,
        diagnostics: params.diagnostics,
        whitelist: matchers(&params.whitelist),
        blacklist: matchers(&params.blacklist),
        token: params.token_file.clone().map(tokens::check),
    }
}

/// All metrics of the process, those of the control side included; their upkeep runs on `handle`.
pub fn new_metrics(handle: &Handle) -> Metrics {
    let metrics = Metrics::new();
    telemetry::register_process(&metrics);
    if let Some(control) = ControlMetrics::install() {
        control.attach(&metrics);
        handle.spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                control.run_upkeep();
            }
        });
    }
    metrics
}

/// Keeps the gauges of discovery up to date.
pub async fn show_discovery(discovery: Discovery) {
    loop {
        discovery.watches.publish_metrics();
        if let Some(snapshot) = &discovery.snapshot {
            snapshot.publish_metrics();
        }
        tokio::time::sleep(SHOW).await;
    }
}

//! The resolved parameters of what router and namerd have in common: plain data, every default applied.
//!
//! For: whoever builds these things. Not for: reading (see the module of each object).

use super::transformer::TransformerParams;
use dtab::{Path, Pattern};
use regex::Regex;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// The administrative server (config reference §3.1).
#[derive(Debug, Clone)]
pub struct AdminParams {
    /// Listen address. Default 127.0.0.1.
    pub ip: IpAddr,
    /// Listen port; 0 for any. Default 9990.
    pub port: u16,
    /// How long connections may go on after the signal to end. Default 10 s.
    pub shutdown_grace: Duration,
    /// Which paths are answered.
    pub security: SecurityParams,
    /// Options of the listening socket.
    pub socket: SocketParams,
    /// Serve over TLS. Default plain text.
    pub tls: Option<tls::ServerTlsParams>,
}

impl Default for AdminParams {
    fn default() -> AdminParams {
        AdminParams {
            ip: LOOPBACK,
            port: 9990,
            shutdown_grace: Duration::from_secs(10),
            security: SecurityParams::default(),
            socket: SocketParams::default(),
            tls: None,
        }
    }
}

/// The default listen address (config reference §3.1, §4.2).
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Which paths of the administrative server are answered (config reference §3.1, `admin.security`).
#[derive(Debug, Clone)]
pub struct SecurityParams {
    /// Answer the category UI. Default true.
    pub ui: bool,
    /// Answer the category control. Default true.
    pub control: bool,
    /// Answer every other path. Default true.
    pub diagnostics: bool,
    /// Opens paths of closed categories; each matches whole paths only. Default none.
    pub whitelist: Vec<Regex>,
    /// Closes paths, stronger than all else; each matches whole paths only. Default none.
    pub blacklist: Vec<Regex>,
    /// A file whose text requests that change something must show. Default none.
    pub token_file: Option<PathBuf>,
}

impl Default for SecurityParams {
    fn default() -> SecurityParams {
        SecurityParams {
            ui: true,
            control: true,
            diagnostics: true,
            whitelist: Vec::new(),
            blacklist: Vec::new(),
            token_file: None,
        }
    }
}

/// Options of sockets (config reference §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketParams {
    /// TCP_NODELAY. Default true.
    pub no_delay: bool,
    /// SO_REUSEADDR. Default true.
    pub reuse_addr: bool,
    /// SO_REUSEPORT. Default false.
    pub reuse_port: bool,
    /// SO_KEEPALIVE. Default as the system has it.
    pub keep_alive: Option<bool>,
    /// Length of the accept queue in connections, listeners only. Default as the system has it.
    pub backlog: Option<u32>,
    /// A peer that sends nothing for so long while bytes are due from it is given up. Default never.
    pub read_timeout: Option<Duration>,
    /// A peer that takes nothing for so long while bytes are due to it is given up. Default never.
    pub write_timeout: Option<Duration>,
}

impl Default for SocketParams {
    fn default() -> SocketParams {
        SocketParams {
            no_delay: true,
            reuse_addr: true,
            reuse_port: false,
            keep_alive: None,
            backlog: None,
            read_timeout: None,
            write_timeout: None,
        }
    }
}

/// A namer (config reference §11).
#[derive(Debug, Clone)]
pub struct NamerParams {
    /// Which namer.
    pub kind: NamerKind,
    /// Applied to its answers in this order. Default none.
    pub transformers: Vec<TransformerParams>,
}

/// A kind of namer with its options.
#[derive(Debug, Clone)]
pub enum NamerKind {
    /// `io.l5d.fs`: files of addresses (config reference §11.2).
    Fs {
        /// With the leading `/#`. Default `/#/io.l5d.fs`.
        prefix: Path,
        /// Existed at load, or may appear later when there is a `stateDir`; relative to the working directory.
        root_dir: PathBuf,
    },
    /// `io.l5d.rewrite`: another name instead (config reference §11.2).
    Rewrite {
        /// With the leading `/#`.
        prefix: Path,
        /// What must match after the prefix.
        pattern: Pattern,
        /// The path to put instead, with `{variables}` of the pattern.
        name: String,
    },
}

/// A telemeter (config reference §14.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TelemeterParams {
    /// `io.l5d.prometheus`: a text page on the administrative server.
    Prometheus {
        /// Path of the page. Default `/admin/metrics/prometheus`.
        path: String,
        /// Put before the name of every metric. Default empty.
        prefix: String,
    },
}

//! [`SystemNamer`]: addresses of the ids that the system namer binds: `/$/inet`, `/$/fixedinet`, `/$/io.buoyant.rinet`
//! (naming reference §5).
//!
//! Called by the local interpreter. Not for: lookups in `/$`, which are pure and live in `dtab::system`.

use crate::addresses::HostPort;
use crate::dns::DnsResolver;
use crate::host::Host;
use crate::update::follow;
use dtab::system::{Target, target};
use dtab::{Activity, Addr, Path, State};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Resolves system ids through one DNS resolver; cloning shares it.
#[derive(Clone)]
pub struct SystemNamer {
    dns: Arc<DnsResolver>,
    handle: Handle,
}

impl SystemNamer {
    /// A namer over this resolver; its tasks run on `handle`.
    pub fn new(dns: Arc<DnsResolver>, handle: Handle) -> SystemNamer {
        SystemNamer { dns, handle }
    }

    /// The addresses of `id`; live until dropped. Literals and `localhost` are known at once. Neg for ids that are not
    /// of the system namer, `Ok(Addr::Failed)` for a host or port that cannot be.
    pub fn resolve(&self, id: &Path) -> Activity<Addr> {
        let constant = |addr| Activity::constant(State::Ok(addr));
        match target(id) {
            None => constant(Addr::Neg),
            Some(Target::Failed(reason)) => constant(Addr::failed(reason)),
            Some(Target::Host { host, port, fixed }) => match Host::parse(&host) {
                None => constant(Addr::failed(format!("malformed host in {id}"))),
                Some(Host::Ip(ip)) => constant(Addr::bound([SocketAddr::new(ip, port)])),
                Some(Host::Name(name)) => {
                    let ips = if fixed { self.dns.lookup_once(&name) } else { self.dns.lookup(&name) };
                    follow(&self.handle, HostPort { ips, port })
                }
            },
        }
    }
}

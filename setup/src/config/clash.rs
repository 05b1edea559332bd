//! Listen addresses, each of which may be there only once in a file (config reference §17).
//!
//! For: the readers of routers, of interfaces, and of the whole file. Not for: binding anything; no socket is opened. Linkerd
//! found some of these clashes only after it had opened its first sockets, or told them without a place.

use super::params::AdminParams;
use super::reader::{Bad, Context, Item};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// A listen address that something in the file wants.
pub struct Claim {
    ip: IpAddr,
    port: u16,
    reuse_port: bool,
    /// Who wants it, for messages.
    holder: String,
}

impl Claim {
    /// What `holder`, as messages call it, wants.
    pub fn new(holder: String, ip: IpAddr, port: u16, reuse_port: bool) -> Claim {
        Claim { ip, port, reuse_port, holder }
    }

    /// Whether the two cannot listen together. A wildcard and one address may share a port when both say `reusePort`.
    fn clashes(&self, other: &Claim) -> bool {
        if self.port == 0 || self.port != other.port {
            return false;
        }
        let overlap = covers(self.ip, other.ip) || covers(other.ip, self.ip);
        self.ip == other.ip || (overlap && !(self.reuse_port && other.reuse_port))
    }
}

/// Whether listening on `wide` includes `ip`.
fn covers(wide: IpAddr, ip: IpAddr) -> bool {
    wide.is_unspecified() && (wide.is_ipv6() || ip.is_ipv4())
}

/// The addresses claimed so far.
#[derive(Default)]
pub struct Sockets {
    by_port: HashMap<u16, Vec<Claim>>,
}

impl Sockets {
    /// Claims the address of the administrative server, before all others.
    pub fn admin(&mut self, admin: &AdminParams) {
        let holder = "the administrative server".to_owned();
        let claim = Claim::new(holder, admin.ip, admin.port, admin.socket.reuse_port);
        self.by_port.entry(claim.port).or_default().push(claim);
    }

    /// Claims the address of a server; `at` is its port or the object around.
    pub fn claim(&mut self, context: &Context<'_>, at: &Item<'_>, claim: Claim) {
        let others = self.by_port.entry(claim.port).or_default();
        if let Some(first) = others.iter().find(|first| first.clashes(&claim)) {
            let (mine, theirs) = (SocketAddr::new(claim.ip, claim.port), SocketAddr::new(first.ip, first.port));
            let message = format!("{mine} is taken: {} listens on {theirs}", first.holder);
            context.bad(at.pos, &at.path, Bad::new(message));
        } else if claim.port != 0 {
            others.push(claim);
        }
    }
}

//! [`Fixed`]: what of a config only a start reads, as it is in force (requirements P9.3).
//!
//! A reload asks it which keys of the new file wait for a restart. Called by `linker`. Not for: what a reload can apply
//! (`live`).

use crate::config::Config;
use std::collections::HashMap;
use std::net::IpAddr;

/// See the module.
pub(crate) struct Fixed {
    /// Keys with their values of the start, as text.
    start: Vec<(&'static str, String)>,
    sockets: HashMap<(IpAddr, u16), SocketOptions>,
}

/// `backlog` and `reusePort`.
type SocketOptions = (Option<u32>, bool);

impl Fixed {
    /// What the process was started with.
    pub(crate) fn new(config: &Config) -> Fixed {
        Fixed { start: at_start(config), sockets: sockets(config) }
    }

    /// The keys of `config`, which is in force as far as that is possible, that differ from what is in force. A listener
    /// that is new is opened with its options and has them from now on.
    pub(crate) fn needs_restart(&mut self, config: &Config) -> Vec<&'static str> {
        let new = at_start(config);
        let differing = self.start.iter().zip(&new).filter(|((_, old), (_, new))| old != new);
        let mut keys: Vec<&'static str> = differing.map(|((key, _), _)| *key).collect();
        let wanted = sockets(config);
        self.sockets.retain(|address, _| wanted.contains_key(address));
        let mut differs = false;
        for (address, options) in wanted {
            differs |= *self.sockets.entry(address).or_insert(options) != options;
        }
        keys.extend(differs.then_some("servers.socketOptions.backlog, reusePort"));
        keys
    }
}

fn at_start(config: &Config) -> Vec<(&'static str, String)> {
    let mut discovery = config.discovery.clone();
    let state_dir = discovery.state_dir.take();
    vec![
        ("stateDir", format!("{state_dir:?}")),
        ("discovery", format!("{discovery:?}")),
        ("admin", format!("{:?}", config.admin)),
    ]
}

fn sockets(config: &Config) -> HashMap<(IpAddr, u16), SocketOptions> {
    let servers = config.routers.iter().flat_map(|router| &router.servers);
    servers.map(|server| ((server.ip, server.port), (server.socket.backlog, server.socket.reuse_port))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(top: &str, servers: &str) -> Config {
        let text = format!("{top}\nrouters: [{{ protocol: http, servers: [{servers}] }}]\n");
        crate::config::load("test", &text).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
    }

    /// Compared with what is in force, and not with the file before.
    #[test]
    fn a_key_needs_a_restart_until_it_is_back() {
        let plain = config("", "{ port: 4140 }");
        let mut fixed = Fixed::new(&plain);
        assert!(fixed.needs_restart(&plain).is_empty());
        let all = "stateDir: /tmp\ndiscovery: { relistMs: 2000 }\nadmin: { port: 9999 }";
        for _ in 0..2 {
            let keys = fixed.needs_restart(&config(all, "{ port: 4140 }"));
            assert_eq!(keys, ["stateDir", "discovery", "admin"]);
        }
        assert_eq!(fixed.needs_restart(&config("stateDir: /tmp", "{ port: 4140 }")), ["stateDir"]);
        assert!(fixed.needs_restart(&plain).is_empty());
    }

    #[test]
    fn a_listener_keeps_the_options_it_was_opened_with() {
        let with = |port: u16, backlog: u32| {
            config("", &format!("{{ port: {port}, socketOptions: {{ backlog: {backlog} }} }}"))
        };
        let mut fixed = Fixed::new(&with(4140, 7));
        for _ in 0..2 {
            assert_eq!(fixed.needs_restart(&with(4140, 8)).len(), 1);
        }
        assert!(fixed.needs_restart(&with(4141, 8)).is_empty(), "a new one is opened as it says");
        assert!(fixed.needs_restart(&with(4140, 8)).is_empty(), "and so is one that was gone");
        assert_eq!(fixed.needs_restart(&with(4140, 7)).len(), 1);
    }
}

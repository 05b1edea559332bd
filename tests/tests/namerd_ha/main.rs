//! As an operator, I run several namerds over one store: to callers they are one, and routers lose any of them, or the store
//! behind them, without a failed request (issue of namerd, requirements P1, P2, P12; namerd reference §11, 19).
//!
//! The stores are real: a story whose server is not installed says so and passes (`apt-get install etcd-server default-jre-headless libzookeeper-java`).

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

mod outages;
mod pair;
mod replicas;
#[expect(dead_code, reason = "its Consul is for the tests of namerd")]
#[path = "../../../namerd/tests/remote_stores/servers.rs"]
mod servers;
mod shared;
mod storm;

/// What the module `servers` needs beside itself.
mod help {
    use e2e::Client;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    /// How long a server may take to start.
    pub(crate) const LIMIT: Duration = Duration::from_secs(120);

    /// Status and body of an answer.
    pub(crate) fn http(
        port: u16,
        method: &str,
        target: &str,
        _headers: &str,
        body: &str,
    ) -> std::io::Result<(u16, String)> {
        let mut client = Client::try_connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let response = client.try_request(method, "localhost", target, &[], body.as_bytes())?;
        Ok((response.status, response.text()))
    }
}

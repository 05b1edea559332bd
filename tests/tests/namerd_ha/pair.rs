//! [`Pair`]: two namerds over one store, on the same ports of two addresses, and routers that know them by one DNS name.

use e2e::{Backend, NameServer, Namerd, Place, Response, Switchyard, eventually, free_ports, try_get};
use std::net::Ipv4Addr;
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const KINDS: [&str; 3] = ["io.l5d.mesh", "io.l5d.namerd", "io.l5d.namerd.http"];
/// How soon an edit is followed, whatever has just happened to one of the two. A second or two, but for a busy machine; less
/// than keep-alives take to find out that one of them hangs.
pub(crate) const SOON: Duration = Duration::from_secs(12);
/// Anything else.
pub(crate) const LATER: Duration = Duration::from_secs(60);
/// The DNS name of both.
const NAME: &str = "namerd.test";
pub(crate) const A: [u8; 4] = [127, 0, 0, 1];
pub(crate) const B: [u8; 4] = [127, 0, 0, 2];

/// A namerd over `@STORAGE@`.
const CONFIG: &str = "\
admin: { ip: @IP@, port: @ADMIN@ }
storage: @STORAGE@
namers:
- { kind: io.l5d.fs, rootDir: @DISCO@ }
interfaces:
- { kind: io.l5d.httpController, ip: @IP@, port: @HTTP@ }
- { kind: io.l5d.mesh, ip: @IP@, port: @MESH@ }
- { kind: io.l5d.thriftNameInterpreter, ip: @IP@, port: @THRIFT@ }
";

/// See the module.
pub(crate) struct Pair {
    pub(crate) namerds: [Namerd; 2],
    pub(crate) dns: NameServer,
    place: Place,
    storage: String,
    disco: TempDir,
    _backends: [Backend; 2],
}

impl Pair {
    /// Prepares both, for services `web-v1` and `web-v2` that answer `v1` and `v2`; nothing runs yet.
    pub(crate) fn prepare(storage: &str) -> Pair {
        let backends = [Backend::text("v1"), Backend::text("v2")];
        let disco = tempfile::tempdir().expect("a folder");
        for (name, backend) in ["web-v1", "web-v2"].into_iter().zip(&backends) {
            let address = format!("127.0.0.1 {}\n", backend.addr().port());
            std::fs::write(disco.path().join(name), address).expect("written");
        }
        let place = Place { ip: A.into(), ports: free_ports(4).try_into().expect("four ports") };
        let config = CONFIG.replace("@STORAGE@", storage);
        let namerds = [A, B].map(|ip| Namerd::prepare(place.at(ip), &config, disco.path()));
        let dns = NameServer::start();
        dns.set(NAME, &[A.into(), B.into()]);
        Pair { namerds, dns, place, storage: config, disco, _backends: backends }
    }

    /// Both run.
    pub(crate) fn start(storage: &str) -> Pair {
        let mut pair = Pair::prepare(storage);
        pair.namerds.iter_mut().for_each(Namerd::run);
        pair
    }

    /// One more, on another address.
    pub(crate) fn another(&self, ip: [u8; 4]) -> Namerd {
        Namerd::start_at(self.place.at(ip), &self.storage, self.disco.path())
    }

    /// The addresses that the DNS name has from now on.
    pub(crate) fn known_as(&self, ips: &[[u8; 4]]) {
        let ips: Vec<Ipv4Addr> = ips.iter().map(|ip| Ipv4Addr::from(*ip)).collect();
        self.dns.set(NAME, &ips);
    }

    /// A router that asks the DNS name.
    pub(crate) fn router(&self, kind: &str) -> Switchyard {
        let (dns, port) = (self.dns.addr(), self.place.port(kind));
        Switchyard::start(&format!(
            "admin: {{ port: @ADMIN@ }}
discovery: {{ dnsServers: ['{dns}'], denyAddresses: [] }}
routers:
- protocol: http
  servers: [{{ port: @P0@ }}]
  interpreter: {{ kind: {kind}, dst: /$/inet/{NAME}/{port} }}
  bindingTimeoutMs: 3000
"
        ))
    }
}

/// Waits until requests for `host` are answered by this text.
pub(crate) fn follows(router: &Switchyard, host: &str, wanted: &str, limit: Duration) {
    eventually(&format!("{host} is answered by {wanted}"), limit, || {
        (try_get(router.addr(0), host).ok()?.text() == wanted).then_some(())
    });
}

/// Sends all requests for `web` to this version, by the namerd.
pub(crate) fn set(namerd: &Namerd, version: &str) {
    namerd.ctl(&["dtab", "set", "default", "/svc/web", &format!("/#/io.l5d.fs/web-{version}"), "--create"], "");
}

/// One request of the HTTP interface.
pub(crate) fn api(namerd: &Namerd, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut client = e2e::Client::connect(namerd.http());
    // A store that hangs is waited for.
    client.set_read_timeout(std::time::Duration::from_secs(30));
    client.request(method, &namerd.http().to_string(), path, headers, body.as_bytes())
}

//! `stateDir` and `discovery`: every key, and what is refused.

use super::*;
use namers::DenyList;
use std::path::Path;

fn params(lines: &str) -> DiscoveryParams {
    good(&format!("{lines}\n{}", router(""))).discovery
}

#[test]
fn defaults_and_values() {
    assert_eq!(params(""), DiscoveryParams::default());
    let set = "stateDir: /tmp/made/later
discovery:
  silentAfterMs: 2000
  relistMs: 0
  emptyGraceMs: 1
  firstAnswerMs: 2
  maxWatches: 3
  newNamesPerSec: 4
  maxWaitingNames: 5
  maxUnknownNames: 6
  maxStoredNames: 70
  dnsServers: ['127.0.0.1:8600', 10.0.0.2, '[::1]:53']
  denyAddresses: [10.0.0.0/8, '::1']
";
    let read = params(set);
    assert_eq!(read.state_dir.as_deref(), Some(Path::new("/tmp/made/later")));
    let times = [read.silent_after, read.relist, read.empty_grace, read.first_answer];
    assert_eq!(times.map(|time| time.as_millis()), [2000, 0, 1, 2]);
    assert_eq!((read.max_watches, read.new_names_per_sec, read.max_waiting_names), (3, 4, 5));
    assert_eq!((read.max_unknown_names, read.max_stored_names), (6, 70));
    let servers: Vec<String> = read.dns_servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["127.0.0.1:8600", "10.0.0.2:53", "[::1]:53"]);
    let nets: Vec<String> = read.deny.0.iter().map(ToString::to_string).collect();
    assert_eq!(nets, ["10.0.0.0/8", "::1/128"]);
    assert_eq!(params("discovery: { denyAddresses: [] }").deny, DenyList(Vec::new()));
}

#[test]
fn wrong_values() {
    for (lines, part) in [
        ("stateDir: /etc/passwd", "f:1:11: stateDir: `/etc/passwd` is not a folder"),
        ("stateDir: /etc/passwd/state", "is not a folder; expected a folder that exists or can be made"),
        ("stateDir: ''", "`stateDir` is empty"),
        ("discovery: { relistMs: 5 }", "f:1:24: discovery.relistMs: 5 is too short"),
        ("discovery: { silentAfterMs: -1 }", "out of range"),
        ("discovery: { maxWatches: 0 }", "out of range"),
        ("discovery: { dnsServers: [web] }", "discovery.dnsServers[0]: `web` is not a literal address"),
        ("discovery: { denyAddresses: [10.0.0.1/8] }", "is not an address or a net such as 10.0.0.0/8"),
        ("discovery: { stateDir: x }", "unknown key `stateDir`"),
    ] {
        one(&format!("{lines}\n{}", router("")), part);
    }
}

//! `io.l5d.consul`, with a fake Consul.

//! The stores behind the network, against real servers where these are installed, and Consul against a fake as well.
//!
//! Each is put through the contract of all stores; then through what only it does. A test whose server is not installed
//! says so and passes: `apt-get install etcd-server default-jre-headless libzookeeper-java`; `consul` is looked for on PATH.

mod consul;
mod consul_real;
mod etcd;
mod fake_consul;
mod gate;
mod help;
mod junk;
mod servers;
#[cfg(feature = "zk")]
mod zk;

//! namerd: dtabs stored centrally, changed by `namerctl` and scripts, followed live by every router.
//!
//! [`storage`] keeps dtabs by namespace, [`names`] answers names by them, [`iface`] speaks the protocols of Linkerd 1,
//! [`access`] says who may do what. Not for: wire formats that the router speaks too, which live in `namers`.

pub mod access;
pub mod cli;
pub mod config;
pub mod guard;
pub mod iface;
pub mod linker;
pub mod names;
pub mod pages;
pub mod serve;
pub mod storage;

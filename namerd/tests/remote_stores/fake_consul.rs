//! A fake Consul.

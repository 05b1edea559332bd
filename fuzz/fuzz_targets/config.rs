//! cargo-fuzz on `e2e::fuzz::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| e2e::fuzz::config(data));

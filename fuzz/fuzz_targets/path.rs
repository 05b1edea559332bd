//! cargo-fuzz on `e2e::fuzz::path`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| e2e::fuzz::path(data));

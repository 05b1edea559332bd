# Short names for what CONTRIBUTING.md describes. `just --list` shows them.

# Debug build of everything.
build:
    cargo build --workspace

# All tests.
test:
    cargo test --workspace

# Everything that must hold before a change is merged.
ci:
    .ci/run

# Two routers and three services on loopback, to try things out.
demo *args:
    cargo run --release -- demo {{args}}

# Validate a config.
check config:
    cargo run --release -- check {{config}}

fmt:
    cargo fmt --all

clippy:
    cargo clippy --workspace --all-targets -- -D warnings

doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps

# Switchyard beside nginx, HAProxy and Envoy; see bench/README.md.
bench *args:
    bench/run.sh {{args}}

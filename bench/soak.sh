#!/usr/bin/env bash
# A million streams of HTTP/2 through one router, half of them cancelled at random points; memory before and after, open
# streams at the end. The short form of this is a story (tests/tests/h2_soak.rs) that CI runs. About 20 minutes.
#
#     bench/soak.sh [STREAMS]
set -euo pipefail
cd "$(dirname "$0")/.."
export SWITCHYARD_STREAMS="${1:-1000000}"
# As it is shipped: resident memory has the pages of the binary in it, and a debug build has so many that a tenth says little.
cargo build --workspace --release
cargo test --workspace --release --test h2_soak -- --nocapture p3_2

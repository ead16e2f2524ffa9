#!/usr/bin/env bash
# Proves that every source file is formatted as rustfmt.toml says.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo fmt --all --check
cargo fmt --manifest-path bench/Cargo.toml --check

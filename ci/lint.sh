#!/usr/bin/env bash
# Proves that the compiler and clippy have nothing to say, tests and examples included.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# With what is optional, and without it.
cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
# The drivers of the cases need what is optional.
cargo clippy --workspace --exclude conformance --all-targets --locked -- -D warnings
# The peers are a workspace of their own; without those that take long to build.
cargo clippy --manifest-path bench/Cargo.toml --target-dir target --all-targets --locked -- -D warnings

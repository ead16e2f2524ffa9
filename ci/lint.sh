#!/usr/bin/env bash
# Proves that the compiler and clippy have nothing to say, tests and examples included.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# With what is optional, and without it.
cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
cargo clippy --workspace --all-targets --locked -- -D warnings

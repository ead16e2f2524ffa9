#!/usr/bin/env bash
# Proves that every unit, model, process and documentation test passes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo test --workspace --all-features --locked

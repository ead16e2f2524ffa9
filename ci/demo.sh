#!/usr/bin/env bash
# Proves that the demonstration runs from a fresh checkout and checks out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo run --release --locked -- demo

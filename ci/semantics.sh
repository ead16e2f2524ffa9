#!/usr/bin/env bash
# Proves that docs/semantics.md and the cases agree: every rule is shown, every case has a rule.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo run --quiet --locked -p conformance -- rules

#!/usr/bin/env bash
# Proves that on a Windows target the crate builds, and has tokio's own pipes under its names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=x86_64-pc-windows-gnu
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    echo "windows: skipped, there is no $target; rustup target add $target"
    exit 0
fi

check=(cargo check --quiet --locked --target "$target" -p ntpipe)
export RUSTFLAGS="-D warnings"
"${check[@]}" --lib
# The same list of signatures that ours are compared with, and a program.
"${check[@]}" --features tokio --lib --test tokio_surface --example tokio_echo
echo "$target: the crate, the list of tokio's signatures and an example build"

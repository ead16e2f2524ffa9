#!/usr/bin/env bash
# Tells where Wine answers otherwise than the cases say; Wine is an oracle, not the truth.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compiler=x86_64-w64-mingw32-gcc
for tool in wine "$compiler"; do
    if ! command -v "$tool" >/dev/null; then
        echo "wine: there is no $tool; apt-get install wine gcc-mingw-w64-x86-64" >&2
        exit 2
    fi
done

directory=$PWD/target/wine
mkdir -p "$directory"
"$compiler" -std=c11 -O1 -Wall -Wextra -Werror -o "$directory/driver.exe" conformance/wine/driver.c

export WINEPREFIX=$directory/prefix WINEDEBUG=-all
# The first start makes the prefix; and if the program can't run at all, that is an error.
answer=$(wine "$directory/driver.exe" <<<reset)
if [ "$answer" != "done" ]; then
    echo "wine: the program answers '$answer'" >&2
    exit 1
fi
cargo run --release --quiet --locked -p conformance -- --wine "$directory/driver.exe" "$@"

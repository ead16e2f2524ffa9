#!/usr/bin/env bash
# Proves that unsafe code stays in the ring, the system calls and the tests; counts it per file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

allowed='^(crates/ntpipe/src/(ring|sys)/|(crates/[^/]+/|conformance/)?tests/)'
total=0
stray=0
while IFS= read -r file; do
    # The keyword itself, so neither strings, comments nor the names of lints.
    count=$(sed -E -e "s/'\"'//g" -e 's/"([^"\\]|\\.)*"//g' -e 's|//.*||' "$file" |
        { grep -ow unsafe || true; } | wc -l)
    if [ "$count" -eq 0 ]; then continue; fi
    total=$((total + count))
    note=
    if ! [[ $file =~ $allowed ]]; then
        stray=$((stray + count))
        note='  <- not allowed here'
    fi
    printf '%6d %s%s\n' "$count" "$file" "$note"
done < <(ci/files.sh '*.rs')
printf '%6d in all, %d where it may not be\n' "$total" "$stray"
[ "$stray" -eq 0 ]

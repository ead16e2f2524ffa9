#!/usr/bin/env bash
# Proves that no Rust file is longer than 800 lines.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

limit=800
sizes=$(ci/files.sh '*.rs' | while IFS= read -r file; do
    printf '%6d %s\n' "$(wc -l <"$file")" "$file"
done | sort -rn)
if [ -z "$sizes" ]; then
    echo "size: found no Rust file" >&2
    exit 1
fi

echo "the longest files:"
sed -n 1,5p <<<"$sizes"
over=$(awk -v limit="$limit" '$1 > limit' <<<"$sizes")
if [ -n "$over" ]; then
    printf 'size: longer than %d lines:\n%s\n' "$limit" "$over" >&2
    exit 1
fi

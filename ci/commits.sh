#!/usr/bin/env bash
# Proves that each commit subject reads `area: do one thing` in at most 60 characters.
# Takes a range (`ci/commits.sh main..`); without one it looks at the whole history.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bad=$(git log --no-merges --format='%h %s' "${1:-HEAD}" |
    { grep -vE '^[0-9a-f]+ [^:]+: .+$' || true; })
long=$(git log --no-merges --format='%h %s' "${1:-HEAD}" |
    awk '{ hash = $1; sub(/^[^ ]+ /, ""); if (length($0) > 60) print hash, length($0), $0 }')
if [ -n "$bad$long" ]; then
    printf 'commits: no area, or longer than 60 characters:\n' >&2
    printf '%s\n' "$bad" "$long" | sed '/^$/d' >&2
    exit 1
fi
echo "$(git rev-list --no-merges --count "${1:-HEAD}") subjects in order"

#!/usr/bin/env bash
# Lists the project's own files that match the given patterns (no gate: the others call it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

patterns=("${@:-*}")
if [ -e .git ] && git rev-parse --git-dir >/dev/null 2>&1; then
    # Also what is not yet added, so that a gate sees the file before the commit does.
    found=$(git ls-files --cached --others --exclude-standard -- "${patterns[@]}")
else
    found=$(for pattern in "${patterns[@]}"; do
        find . \( -name target -o -name .git \) -prune -o -type f -name "$pattern" -print
    done | sed 's|^\./||')
fi
while IFS= read -r file; do
    if [ -f "$file" ]; then printf '%s\n' "$file"; fi
done <<<"$found" | sort -u

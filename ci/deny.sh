#!/usr/bin/env bash
# Proves that each dependency has a licence we can pass on, and comes from crates.io.
# With `--advisories` also that none has a known flaw; that needs cargo-deny and the network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

checks=(bans licenses sources)
if [ "${1:-}" = --advisories ]; then checks+=(advisories); fi
if cargo deny --version >/dev/null 2>&1; then
    exec cargo deny --locked check "${checks[@]}"
fi
if [ "${#checks[@]}" -gt 3 ]; then
    echo "deny: the advisories need cargo-deny" >&2
    exit 1
fi

allowed=$(sed -n '/^allow = \[/,/^\]/s/^ *"\(.*\)",$/\1/p' deny.toml | tr ' ' '~')

# Whether an SPDX expression can be met with the allowed licences: each becomes 1 or 0, the
# operators those of the shell, and the shell's arithmetic has the same precedence.
permitted() {
    local word sum=
    for word in $(sed -E 's/ WITH /~WITH~/g; s|/| OR |g; s/([()])/ \1 /g' <<<"$1"); do
        case $word in
            OR) sum+='|' ;;
            AND) sum+='&' ;;
            '(' | ')') sum+=$word ;;
            *) if grep -qxF -- "$word" <<<"$allowed"; then sum+=1; else sum+=0; fi ;;
        esac
    done
    [ $((sum)) -eq 1 ]
}

# What a build on this machine takes in, with loom and without.
packages=$(for flags in "" "--cfg loom"; do
    RUSTFLAGS="$flags" cargo tree --workspace --all-features --locked \
        --edges normal,build,dev --prefix none --format '{l}|{p}'
done | sed 's/ (\*)$//' | sed '/^$/d' | sort -u)
bad=0
while IFS='|' read -r licence package; do
    if ! permitted "$licence"; then
        printf 'deny: %s: licence "%s"\n' "$package" "$licence" >&2
        bad=$((bad + 1))
    fi
done <<<"$packages"

index='registry+https://github.com/rust-lang/crates.io-index'
if grep '^source = ' Cargo.lock | grep -vxF "source = \"$index\"" >&2; then
    echo "deny: not from crates.io" >&2
    bad=$((bad + 1))
fi
printf '%d packages, %d objections\n' "$(wc -l <<<"$packages")" "$bad"
[ "$bad" -eq 0 ]

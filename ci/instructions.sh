#!/usr/bin/env bash
# Proves that no hot path takes over 2 % more instructions than ci/instructions.txt says, or fewer.
# `ci/instructions.sh --update REASON` writes that file anew. Needs valgrind, else says so and skips.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

baseline=ci/instructions.txt
tolerance=2
# In a transaction two threads sleep and wake, which no two runs do in quite the same way.
of_transact=8
reason=
if [ "${1:-}" = --update ]; then
    reason=${2:-}
    if [ -z "$reason" ]; then
        echo "instructions: --update wants a reason" >&2
        exit 2
    fi
elif [ $# -gt 0 ]; then
    echo "usage: ci/instructions.sh [--update REASON]" >&2
    exit 2
fi

if ! command -v valgrind >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update && apt-get install -y --no-install-recommends valgrind; } >/dev/null 2>&1 || true
fi
if ! command -v valgrind >/dev/null; then
    echo "SKIPPED, nothing was counted: there is no valgrind (apt-get install valgrind)"
    [ -z "$reason" ] # Without figures there is nothing to update.
    exit
fi

program=$(cargo bench -p ntpipe --bench instructions --no-run --locked --message-format json |
    sed -n 's/.*"executable":"\([^"]*instructions-[^"]*\)".*/\1/p')
# What the counts depend on besides our code.
setting="$(rustc --version), $(getconf GNU_LIBC_VERSION), $(valgrind --version), $(uname -m)"

directory=$(mktemp -d)
trap 'rm -r "$directory"' EXIT
# Looking for the peer before sleeping would count what the clock allows; and on one CPU, in turn,
# threads wait for each other in the same places each time.
export NTPIPE_DIR=$directory NTPIPE_SPIN_US=0
cpu=$(sed -n 's/^Cpus_allowed_list:[^0-9]*\([0-9]*\).*/\1/p' /proc/self/status)
count=(taskset -c "$cpu" valgrind --tool=callgrind --fair-sched=yes --callgrind-out-file=/dev/null)

# The instructions of all threads of a whole run.
total() {
    "${count[@]}" "$program" "$@" 2>"$directory/said" ||
        { cat "$directory/said" >&2 && return 1; }
    sed -n 's/.*Collected : //p' "$directory/said" | grep -x '[0-9]*'
}

counted=$directory/counted
for path in $("$program"); do
    # Threads that wait for each other find a busy machine in their way, which only adds.
    case $path in
        transact | connect) turns=500 times=5 ;;
        *) turns=2000 times=1 ;;
    esac
    least_once= least_twice=
    for _ in $(seq $times); do
        # What start and end take is in both.
        once=$(total "$path" $turns)
        twice=$(total "$path" $((2 * turns)))
        if [ $((once)) -lt $((least_once ? least_once : once + 1)) ]; then least_once=$once; fi
        if [ $((twice)) -lt $((least_twice ? least_twice : twice + 1)) ]; then least_twice=$twice; fi
    done
    printf '%-14s %d\n' "$path" $(((least_twice - least_once + turns / 2) / turns))
done >"$counted"

if [ -n "$reason" ]; then
    {
        echo "# Instructions for one turn of each path in crates/ntpipe/benches/instructions.rs."
        echo "# By \`ci/instructions.sh --update REASON\`; the last reason: $reason"
        echo "# $setting"
        cat "$counted"
    } >"$directory/baseline"
    mv "$directory/baseline" "$baseline"
    cat "$baseline"
    exit
fi

bad=0
awk -v usual=$tolerance -v of_transact=$of_transact '
    /^#/ { next }
    NR == FNR { expected[$1] = $2; next }
    {
        was = expected[$1]
        delete expected[$1]
        change = was ? 100 * ($2 - was) / was : 0
        tolerance = $1 == "transact" ? of_transact : usual
        note = was == "" ? "  <- not in the file" : change > tolerance ? "  <- more" : \
            change < -tolerance ? "  <- fewer" : ""
        bad += note != ""
        printf "%-14s %8d, was %8d: %+6.2f %%%s\n", $1, $2, was, change, note
    }
    END {
        for (path in expected) { print path "  <- not counted"; bad++ }
        exit bad > 0
    }' "$baseline" "$counted" || bad=1
if ! grep -qxF "# $setting" "$baseline"; then
    printf 'NOT COMPARED, for the file was written with other versions:\n  then %s\n  now  # %s\n' \
        "$(sed -n 3p "$baseline")" "$setting"
    exit
fi
if [ $bad -ne 0 ]; then
    echo "instructions: over $tolerance % from $baseline; if it must be so:" \
        "ci/instructions.sh --update REASON" >&2
    exit 1
fi

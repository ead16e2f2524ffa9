#!/usr/bin/env bash
# Proves over all interleavings that no wake is lost, and that without the fence one would be.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export LOOM_MAX_PREEMPTIONS=3
loom=(cargo test -p ntpipe --release --locked --target-dir target/loom --test loom)

# Prints the name of each test, and fails when there is none.
names() {
    "${loom[@]}" -- --list --format terse | sed -n 's/: test$//p' | grep . || {
        echo "loom: no test to run" >&2
        return 1
    }
}

export RUSTFLAGS="--cfg loom"
tests=$(names)
"${loom[@]}"
printf 'loom, with the fence: %d passed, 0 failed\n' "$(wc -l <<<"$tests")"

# A check that can't fail proves nothing. `names` builds, so what fails below is the test itself.
export RUSTFLAGS="--cfg loom --cfg ntpipe_without_fence"
tests=$(names)
caught=0
missed=0
while IFS= read -r name; do
    status=0
    output=$("${loom[@]}" -- --exact "$name" --test-threads 1 2>&1 </dev/null) || status=$?
    if [ "$status" -ne 0 ] && grep -q '^running 1 test$' <<<"$output"; then
        caught=$((caught + 1))
        reason=$(sed -n '/panicked at/{n;p;q;}' <<<"$output")
        printf 'caught %s: %s\n' "$name" "${reason:-ended by a signal}"
    else
        missed=$((missed + 1))
        printf 'MISSED %s: it passes without the fence\n%s\n' "$name" "$output" >&2
    fi
done <<<"$tests"
printf 'loom, without the fence: %d passed, %d failed (to pass is to be caught)\n' \
    "$caught" "$missed"
[ "$missed" -eq 0 ]

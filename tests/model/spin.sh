#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Claim: a Spin model holds in each run that its head says must pass, searched to the end, and each named
# broken variant is rejected. The lines of the head are the plan:
#   * pass: FLAGS            searched exhaustively without an error, every time
#   * long: FLAGS            the same, only with NORIA_LONG=1
#   * reject: -DBROKEN=n FLAGS what is broken in words
# FLAGS are -D only; a run with -DNP looks for endless loops without progress. Without spin it is skipped, but fails
# where CI is set: there nobody would see that. usage: spin.sh MODEL.pml
set -eu

model=$(realpath "$1")
for program in spin gcc; do
    if ! command -v $program >/dev/null; then
        echo "skipped: $program is not installed, so $(basename "$model") is not checked"
        test -z "${CI:-}" || exit 1
        exit 77
    fi
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# Splits "-DA=1 -DB words" into $flags and $words.
split() {
    flags='' words=''
    for word in $1; do
        case $word in
        -D*) flags="$flags $word" ;;
        *) words="$words $word" ;;
        esac
    done
}

# Searches the model with $flags; leaves the verifier's words in the file report. $1: how to compile the verifier: it is
# large, and the compiler would take longer over it than most searches.
search() {
    how=-DSAFETY option="-n -E"
    case $flags in
    *-DNP*) how=-DNP option='-n -l' ;;
    esac
    # shellcheck disable=SC2086
    spin -a $flags "$model" >spin.out 2>&1 || { cat spin.out; return 1; }
    # shellcheck disable=SC2086
    gcc "$1" -w $how -DCOLLAPSE -DMEMLIM="${NORIA_MODEL_MIB:-6000}" -o pan pan.c || return 1
    # shellcheck disable=SC2086
    timeout "${NORIA_MODEL_SECONDS:-1500}" ./pan -m2000000 -w24 $option 2>&1 | grep -v ^Depth= >report || true
}

fail() {
    echo "FAILED: $1"
    grep -E '^pan:|^Warning|errors:' report || true
    exit 1
}

must_pass() {
    split "$1"
    start=$(date +%s)
    search -Og || fail "$flags does not build"
    grep -q 'errors: 0' report || fail "$flags"
    ! grep -qE 'Search not completed|max search depth too small|out of memory' report ||
        fail "$flags was cut short"
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' report)
    echo "pass   $flags: $states states, $(($(date +%s) - start)) s"
}

must_reject() {
    split "$1"
    search -O0 || fail "$flags does not build"
    grep -qE '^pan:[0-9]+: (assertion violated|non-progress cycle)' report ||
        fail "broken variant is not rejected:$flags ($words)"
    echo "reject $flags:$words"
}

plan() {
    sed -n "1,/\*\//s/^ \* $1: //p" "$model"
}

plan pass >passes
plan long >longs
plan reject >rejects
test -s passes && test -s rejects || fail "the head of $1 names no runs"
while read -r line; do must_pass "$line"; done <passes
if [ "${NORIA_LONG:-0}" = 1 ]; then
    while read -r line; do must_pass "$line"; done <longs
fi
while read -r line; do must_reject "$line"; done <rejects

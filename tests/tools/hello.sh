#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: the hello programs meet whichever starts first, every message arrives once and in order, nothing is left.
# usage: hello.sh HELLO_SEND HELLO_RECV
set -u
send=$1
recv=$2
left="/dev/shm/hello-$(id -u)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
expect() { # what, expected words
    local got
    got=$(sed 's/ (from participant.*//' "$work/got" | tr '\n' ' ')
    [ "$got" = "$2 " ] || { echo "FAILED: $1: '$got'"; status=1; }
    [ ! -e "$left" ] || { echo "FAILED: $1: $left is left"; status=1; }
}
[ ! -e "$left" ] || { echo "$left exists already: somebody is trying the example"; exit 77; }

timeout 60 "$send" one two three || status=1
timeout 60 "$recv" >"$work/got" || status=1
expect "sender first" "one two three"

timeout 60 "$recv" >"$work/got" &
timeout 60 "$send" four five || status=1
wait $! || status=1
expect "both at once" "four five"
exit $status

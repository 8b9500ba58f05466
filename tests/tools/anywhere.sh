#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: the same producer and consumer work at every address.
# usage: anywhere.sh ANYWHERE NORIA
set -u
anywhere=$(realpath "$1") noria=$(realpath "$2")
work=$(mktemp -d)
NORIA_DIR=$work/place
export NORIA_DIR
status=0
names=("shm:/anywhere-$$" "file:$work/file" "sysv:$((2000000 + $$))" "mq:/anywhere-$$" "svmq:$((2000000 + $$))")
cd "$work" || exit 1
trap 'for name in "${names[@]}"; do "$noria" rm --force "$name" 2>/dev/null; done; rm -rf "$work"' EXIT
expected='1000 numbers, sum 499500, 0 missed'
for address in "${names[@]}" "fifo:$work/fifo" "unix:$work/unix" "unix:$work/packets?seqpacket" "tcp::$((31000 + $$ % 1000))"; do
    timeout 60 "$anywhere" recv "$address" >got &
    reader=$!
    timeout 60 "$anywhere" send "$address" 1000 || status=1
    wait $reader || status=1
    [ "$(cat got)" = "$expected" ] || { echo "FAILED: $address: $(cat got)"; status=1; }
done
got=$(timeout 60 "$anywhere" send fd:1 1000 | timeout 60 "$anywhere" recv fd:0)
[ "$got" = "$expected" ] || { echo "FAILED: fd: $got"; status=1; }
exit $status

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: a demo that is interrupted in the middle takes its processes and its names in shared memory with it.
# usage: interrupted.sh DEMO
set -u
demo=$1
status=0
try() { # signal, expected exit status
    local pid got
    "$demo" --mib 400 --kills 1000000 >/dev/null 2>&1 &
    pid=$!
    for _ in $(seq 3000); do # until it is at work
        [ ! -e "/dev/shm/noria-demo-$pid-done" ] || break
        sleep 0.01
    done
    kill "-$1" $pid
    wait $pid
    got=$?
    [ $got = "$2" ] || { echo "FAILED: SIG$1: exit status $got, not $2"; status=1; }
    for name in "/dev/shm/noria-demo-$pid"*; do
        [ ! -e "$name" ] || { echo "FAILED: SIG$1: $name is left"; rm -f "$name"; status=1; }
    done
    ! pgrep -P $pid >/dev/null || { echo "FAILED: SIG$1: processes are left"; status=1; }
}
try INT 130
try TERM 143
exit $status

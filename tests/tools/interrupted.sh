#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: a demo that is interrupted in the middle takes its processes and its names in shared memory with it.
# usage: interrupted.sh DEMO
set -u
demo=$1
kills=$((1000000 + $$)) # so many that it is never done; and by it we know its processes
status=0
try() { # signal, expected exit status
    local pid got
    "$demo" --mib 400 --kills $kills >/dev/null 2>&1 &
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
    ! cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep -q "^$kills\$" ||
        { echo "FAILED: SIG$1: processes are left"; status=1; }
}
try INT 130
try TERM 143
exit $status

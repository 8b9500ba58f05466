#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: the command sends and receives through a nats-server, and two bridges carry a file from a ring through it into
# another ring, byte for byte; without a server it says so.
# usage: nats.sh NORIA
set -u
noria=$(realpath "$1") && [ -x "$noria" ] || exit 1
PATH=$PATH:/usr/sbin
command -v nats-server >/dev/null || { echo "there is no nats-server here"; exit 77; }
work=$(mktemp -d)
server='' bridges=()
from=shm:/noria-nats-from-$$ to=shm:/noria-nats-to-$$
checks=0
status=0

cleanup() {
    for pid in ${bridges[@]+"${bridges[@]}"} $server; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; done
    for ring in "$from" "$to"; do "$noria" rm --force "$ring" 2>/dev/null; done
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1
bad() { printf 'FAILED: %s\n' "$*"; status=1; }

# A port that is free: another program may have been faster, then the next one.
for try in 1 2 3 4 5 6 7 8; do
    port=$((21000 + ($$ * 8 + try) % 9000))
    nats-server -a 127.0.0.1 -p $port -js -sd "$work/store" >log 2>&1 &
    server=$!
    until grep -q 'Server is ready' log || ! kill -0 $server 2>/dev/null; do sleep 0.05; done
    kill -0 $server 2>/dev/null && break
done
at=nats://127.0.0.1:$port

seq 2000 >lines
printf 'last line open' >>lines
timeout 120 "$noria" send $at/plain lines --capacity 5000 || bad "send"
timeout 120 "$noria" recv $at/plain --count 2001 --timeout 60s >copy || bad "recv"
checks=$((checks + 1))
cmp lines copy || bad "a file through a stream"

"$noria" create "$from" --max-message 4000 --capacity 100
"$noria" create "$to" --max-message 4000 --capacity 100
timeout 240 "$noria" bridge "$from" "$at/orders?strict" 2>out &
bridges+=($!)
timeout 240 "$noria" bridge "$at/orders?strict" "$to" --max-message 4000 2>in & # waits for the stream
bridges+=($!)
for i in 0 1; do
    side=$([ $i = 0 ] && echo out || echo in)
    until grep -q 'at least once' $side; do
        kill -0 "${bridges[$i]}" 2>/dev/null || { bad "a bridge ended: $(cat $side)"; break; }
        sleep 0.05
    done
done
timeout 120 "$noria" send "$from" lines &
sender=$!
timeout 120 "$noria" recv "$to" --count 2001 --timeout 60s >copy || bad "recv behind the bridges: $(cat out in)"
wait $sender || bad "send into the bridges"
checks=$((checks + 1))
cmp lines copy || bad "a file from ring to ring"
for side in out in; do
    checks=$((checks + 1))
    grep -q 'at least once' $side || bad "the bridge says: $(cat $side)"
done

says() { # words, command...
    local words=$1
    shift
    checks=$((checks + 1))
    timeout 60 "$noria" "$@" >sentence 2>&1 </dev/null && bad "noria $* succeeds"
    grep -q -- "$words" sentence || bad "noria $* says: $(cat sentence)"
}
checks=$((checks + 1))
"$noria" stat "$at/orders" | grep -q '^abilities .*redeliver' || bad "stat"
says 'there is no stream' recv $at/none --wait 0
says 'is in use' rm "$at/orders"
"$noria" rm --force "$at/orders" || bad "rm"
kill $server
wait $server 2>/dev/null
says 'No server' recv $at/none --wait 0
says 'is no option' send "$at/none?nonsense"

echo "$checks checks"
exit $status

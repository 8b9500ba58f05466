#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: the same producer and consumer work at every address.
# usage: anywhere.sh ANYWHERE NORIA
set -u
anywhere=$(realpath "$1") noria=$(realpath "$2")
PATH=$PATH:/usr/sbin
work=$(mktemp -d)
server=
NORIA_DIR=$work/place
export NORIA_DIR
status=0
names=("shm:/anywhere-$$" "file:$work/file" "sysv:$((2000000 + $$))" "mq:/anywhere-$$" "svmq:$((2000000 + $$))" "auto:/anywhere-$$")
cd "$work" || exit 1
trap '[ -z "$server" ] || { kill $server; wait $server; }; for name in "${names[@]}"; do "$noria" rm --force "$name" 2>/dev/null; done; rm -rf "$work"' EXIT
tcp=("tcp::$((31000 + $$ % 1000))")
[ ! -e /proc/sys/net/ipv6/conf/lo/disable_ipv6 ] || [ "$(cat /proc/sys/net/ipv6/conf/lo/disable_ipv6)" != 0 ] ||
    tcp+=("tcp:[::1]:$((31000 + $$ % 1000))")
expected='1000 numbers, sum 499500, 0 missed'
for address in "${names[@]}" "fifo:$work/fifo" "unix:$work/unix" "unix:$work/packets?seqpacket" "${tcp[@]}" "unix:$work/dealt?deal" "tcp::$((31000 + $$ % 1000))?deal"; do
    timeout 60 "$anywhere" recv "$address" >got &
    reader=$!
    timeout 60 "$anywhere" send "$address" 1000 || status=1
    wait $reader || status=1
    [ "$(cat got)" = "$expected" ] || { echo "FAILED: $address: $(cat got)"; status=1; }
done
got=$(timeout 60 "$anywhere" send fd:1 1000 | timeout 60 "$anywhere" recv fd:0)
[ "$got" = "$expected" ] || { echo "FAILED: fd: $got"; status=1; }

# Through a server, where there is one and noria was built with its client.
start_server() {
    local try port
    command -v nats-server >/dev/null || return 1
    for try in 1 2 3 4 5 6 7 8; do
        port=$((12000 + ($$ * 8 + try) % 8000))
        nats-server -a 127.0.0.1 -p $port -js -sd "$work/store" >log 2>&1 &
        server=$!
        until grep -q 'Server is ready' log || ! kill -0 $server 2>/dev/null; do sleep 0.05; done
        at=nats://127.0.0.1:$port
        kill -0 $server 2>/dev/null && return 0
    done
    server=
    return 1
}
if start_server && "$noria" send "$at/there" <<<'there' 2>err; then
    timeout 60 "$anywhere" recv "$at/numbers" 1000 >got &
    reader=$!
    timeout 60 "$anywhere" send "$at/numbers" 1000 || status=1
    wait $reader || status=1
    [ "$(cat got)" = "$expected" ] || { echo "FAILED: nats: $(cat got)"; status=1; }
elif [ -n "$server" ] && ! grep -q 'built without' err; then
    echo "FAILED: nats: $(cat err)"
    status=1
fi
exit $status

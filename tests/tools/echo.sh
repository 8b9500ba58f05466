#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: what strangers send over TCP comes back to each, byte for byte, also while others hang up in the middle of a line,
# send rubbish, do not read, or kill workers.
# usage: echo.sh ECHO
set -u
echo=$(realpath "$1")
work=$(mktemp -d)
status=0
cd "$work" || exit 1
bad() { printf 'FAILED: %s\n' "$*"; status=1; }
"$echo" 0 >port 2>err &
server=$!
trap 'kill $server; rm -rf "$work"' EXIT
until [ -s port ]; do kill -0 $server || { cat err; exit 1; }; sleep 0.05; done
port=$(cat port)

# Sends a file and reads as many bytes at the same time.
send_and_get() { # file, copy
    local fd
    exec {fd}<>"/dev/tcp/127.0.0.1/$port" || return 1
    cat "$1" >&$fd &
    timeout 60 head -c "$(stat -c %s "$1")" <&$fd >"$2"
    wait $!
    exec {fd}<&-
}
seq 500 >numbers
{ head -c 5000 /dev/zero | tr '\0' x; echo; printf '\n\nthree\n'; } >long
head -c 20000 /dev/urandom | tr 'c' 'd' >rubbish && echo >>rubbish # no "crash" in it

exec {lazy}<>"/dev/tcp/127.0.0.1/$port" # says something, and never reads
cat numbers >&$lazy
for each in numbers long rubbish; do
    send_and_get $each copy.$each &
done
for i in 1 2 3; do # hang up in the middle of a line
    exec {fd}<>"/dev/tcp/127.0.0.1/$port"
    printf 'half a line' >&$fd
    exec {fd}<&-
done
for job in $(jobs -p); do [ "$job" = $server ] || wait "$job"; done
for each in numbers long rubbish; do cmp $each copy.$each || bad "$each does not come back"; done

exec {fd}<>"/dev/tcp/127.0.0.1/$port"
for i in 1 2 3 4 5; do # more than there are workers
    printf 'before %s\ncrash\nafter %s\n' $i $i >&$fd
    for expected in "before $i" 'a worker died over this line' "after $i"; do
        read -r -t 60 got <&$fd
        [ "$got" = "$expected" ] || bad "'$got' instead of '$expected'"
    done
done
kill -0 $server || bad "the server has ended: $(cat err)"
exit $status

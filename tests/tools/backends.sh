#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: every command works on channels of every kind of memory that has a name, by each way of naming it.
# usage: backends.sh NORIA
set -u
noria=$(realpath "$1") && [ -x "$noria" ] || exit 1
work=$(mktemp -d -p /var/tmp noria-backends.XXXXXX)
key=$(printf '0x%08x' $((0x75000000 + $$)))
checks=0
status=0

cleanup() {
    "$noria" rm --force "sysv:$key" "shm:/noria-backends-$$" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1

bad() { printf 'FAILED: %s\n' "$*"; status=1; }
is() { # what, expected, got
    checks=$((checks + 1))
    [ "$2" = "$3" ] || bad "$1: expected '$2', got '$3'"
}
fails_with() { # text, command...
    local text=$1
    shift
    checks=$((checks + 1))
    "$@" >out 2>err && bad "$* succeeds"
    grep -q -e "$text" err || bad "$*: no '$text' in: $(cat err)"
}
listed() { # address, folder...: the fields of its line
    local address=$1
    shift
    "$noria" ls "$@" | awk -v x="$address" '$1 == x { print $2, $3, $4, $5, $9, $10 }'
}

head -c 200000 /dev/urandom | base64 >input
for address in "shm:/noria-backends-$$" "file:$work/queue" "sysv:$key"; do
    scheme=${address%%:*}
    "$noria" create "$address" --capacity 64 --max-message 128 --mode 0640 || bad "create $address"
    fails_with 'NORIA_EXCL' "$noria" create "$address"
    is "ls of $address" "$scheme mpmc 64 0 0640 idle" "$(listed "$address" "$work")"
    is "ls --json of $address" "$scheme" "$("$noria" stat "$address" --json | sed -n 's/.*"backend": *"\([a-z]*\)".*/\1/p')"
    timeout 60 "$noria" recv "$address" >output &
    reader=$!
    timeout 60 "$noria" send "$address" input || bad "send to $address"
    wait $reader || bad "recv from $address"
    cmp -s input output || bad "$address alters messages"
    "$noria" recv "$address" --follow >/dev/null &
    reader=$!
    until [ "$("$noria" who "$address" | wc -l)" = 2 ]; do sleep 0.01; done
    is "who of $address" "$reader receiver yes" "$("$noria" who "$address" | awk 'NR == 2 { print $2, $3, $4 }')"
    fails_with 'in use' "$noria" rm "$address"
    kill -9 $reader
    wait $reader 2>/dev/null
    is "who of the dead at $address" dead "$("$noria" who "$address" | awk 'NR == 2 { print $4 }')"
    "$noria" stat "$address" >out || bad "stat of $address"
    "$noria" rm "$address" || bad "rm of $address"
    fails_with 'no channel' "$noria" stat "$address"
    is "ls after rm of $address" "" "$(listed "$address" "$work")"
done

# The same memory by its key in decimal, by path and project, by id; and one without a key.
"$noria" create "sysv:$key" --capacity 8
echo hello | "$noria" send "sysv:$((key))" || bad "send by a decimal key"
id=$(awk -v key="$((key))" '$1 == key { print $2 }' /proc/sysvipc/shm)
is "recv by id" hello "$("$noria" recv "sysv:id:$id" --count 1)"
is "with its name" "" "$("$noria" stat "sysv:id:$id" | grep nameless)"
"$noria" recv "sysv:id:$id" --follow >/dev/null &
reader=$!
until [ "$("$noria" who "sysv:id:$id" | wc -l)" = 2 ]; do sleep 0.01; done
"$noria" rm --force "sysv:id:$id" || bad "rm by id"
fails_with 'no channel' "$noria" stat "sysv:$key"
is "without its name" "nameless" "$("$noria" stat "sysv:id:$id" | awk '/^nameless/ { print $1 }')"
kill $reader
wait $reader 2>/dev/null
touch here
echo by path | "$noria" send "sysv:$work/here:7" || bad "send by path"
is "recv by path" "by path" "$("$noria" recv "sysv:$work/here:7" --count 1)"
"$noria" rm "sysv:$work/here:7" || bad "rm by path"

fails_with 'no key' "$noria" create sysv:0
fails_with 'no key' "$noria" create sysv:12x
fails_with 'no key' "$noria" create sysv:-1
fails_with 'no key' "$noria" create sysv:0x100000000
fails_with 'can only be attached' "$noria" create sysv:id:5
fails_with 'no channel' "$noria" stat sysv:id:2147483647
fails_with 'has to exist' "$noria" create "sysv:$work/missing:1"
fails_with 'project' "$noria" create "sysv:$work/here"
fails_with 'project' "$noria" create "sysv:$work/here:0"
fails_with 'project' "$noria" create "sysv:$work/here:256"
fails_with 'memory without a name' "$noria" send sysv: input
fails_with 'from the root' "$noria" create file:queue
fails_with 'from the root' "$noria" create file:/
fails_with 'from the root' "$noria" create file:
fails_with 'no such directory' "$noria" create "file:$work/missing/queue"
fails_with 'cannot list' "$noria" ls "$work/missing"
echo text >note
fails_with 'something else' "$noria" create "file:$work/note"
fails_with 'something else' "$noria" rm "file:$work/note"
is "another's file" text "$(cat note)"

echo "$checks checks"
exit $status

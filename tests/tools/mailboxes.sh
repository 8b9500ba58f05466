#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: of receivers who share a mailbox each letter goes to one; what one had in its hands when it was killed goes to another.
# usage: mailboxes.sh MAILBOXES NORIA
set -u
mailboxes=$(realpath "$1") noria=$(realpath "$2")
work=$(mktemp -d)
desk=desk-$$ hall=hall-$$
own="shm:/mailbox-$(id -u)"
status=0
cleanup() {
    "$noria" rm --force "$own-$desk" 2>/dev/null
    "$noria" rm --force "$own-$hall" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1
bad() { printf 'FAILED: %s\n' "$*"; status=1; }
until_so() { # what is to become true; asked again and again
    local tries=0
    until eval "$1"; do
        tries=$((tries + 1))
        [ $tries -lt 2000 ] || { bad "never so: $1"; return 1; }
        sleep 0.02
    done
}

"$mailboxes" hold "$desk" >held &
holder=$!
until_so '"$noria" stat "$own-$desk" 2>/dev/null | grep -qx "receivers *1"'
timeout 60 "$mailboxes" post "$desk" first || bad "post"
until_so '[ -s held ]'
timeout 60 "$mailboxes" take "$desk" >one &
one=$!
timeout 60 "$mailboxes" take "$desk" "$hall" >both &
both=$!
until_so '"$noria" stat "$own-$desk" | grep -qx "receivers *3" && "$noria" stat "$own-$hall" 2>/dev/null | grep -qx "receivers *1"'
timeout 60 "$mailboxes" post "$desk" $(seq 2 200) || bad "post desk"
timeout 60 "$mailboxes" post "$hall" $(seq 5) || bad "post hall"
# All is given out but what the holder has, and the others wait for that.
until_so '[ "$(cat one both | wc -l)" = 204 ]'
kill -0 $one $both 2>/dev/null || bad "somebody left while a letter might come back"
kill -KILL $holder
wait $one || bad "take"
wait $both || bad "take two"
{ echo "$desk: first (a receiver died with it)"; seq -f "$desk: %g" 2 200; seq -f "$hall: %g" 5; } | sort >expected
sort one both | cmp - expected || bad "the letters taken are not those posted, each once"
[ "$(cat held)" = "$desk: first" ] || bad "held: $(cat held)"
exit $status

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: `noria stat auto:/name` tells what carries the channel and why not what was tried before, in words and as JSON;
# and the choice stands in the folder that the environment names.
# usage: auto.sh NORIA
set -u
noria=$(realpath "$1") && [ -x "$noria" ] || exit 1
unset NORIA_DIR NORIA_TRANSPORT
work=$(mktemp -d)
name=tool-$$
started=()
checks=0
status=0

cleanup() {
    for pid in ${started[@]+"${started[@]}"}; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; done
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1
mkfifo feed
bad() { printf 'FAILED: %s\n' "$*"; status=1; }
says() { # words, file
    checks=$((checks + 1))
    grep -q -- "$1" "$2" || bad "does not say '$1': $(cat "$2")"
}

# A line goes through the name; before it `stat` is asked. The choice is to stand in that folder.
goes_through() { # address, folder
    local sender reader
    timeout 60 "$noria" send "$1" <feed 2>err &
    sender=$!
    exec 9>feed
    timeout 60 "$noria" recv "$1" --wait 20s >copy 2>>err 9>&- &
    reader=$!
    started+=($sender $reader)
    until timeout 20 "$noria" stat "$1" >told 2>>err && grep -q '^carried by' told; do
        kill -0 $reader 2>/dev/null && kill -0 $sender 2>/dev/null || { bad "$1: $(sort -u err)"; break; }
        sleep 0.05
    done
    timeout 20 "$noria" stat "$1" --json >told.json || bad "stat --json $1"
    checks=$((checks + 2))
    [ -e "$2/auto-$name" ] || bad "$1: no choice in $2: $(ls "$2")"
    echo 'a line' >&9
    exec 9>&-
    wait $sender || bad "send $1: $(sort -u err)"
    wait $reader || bad "recv $1: $(sort -u err)"
    [ "$(cat copy)" = 'a line' ] || bad "$1: $(cat copy)"
    "$noria" rm "$1" || bad "rm $1"
}

# --- a folder whose name is too long for a socket's
long=$work/$(printf 'x%.0s' {1..120})
NORIA_DIR=$long goes_through "auto:/$name?order=unix,fifo" "$long"
says '^carried by  *fifo:' told
says '^refused  *unix: .*longer' told
says '"carrier": *"fifo:' told.json
says '"refused": *"unix: .*longer' told.json

# --- nothing was refused
NORIA_DIR=$work/place goes_through "auto:/$name?order=unix,fifo" "$work/place"
says '^carried by  *unix:' told
says '"refused": *""' told.json
checks=$((checks + 1))
! grep -q '^refused' told || bad "refuses: $(cat told)"

# --- without NORIA_DIR, and with nothing at all
mkdir -m 700 "$work/run"
XDG_RUNTIME_DIR=$work/run goes_through "auto:/$name?order=fifo" "$work/run/noria"
says "^carried by  *fifo:$work/run/noria/" told
unset XDG_RUNTIME_DIR
goes_through "auto:/$name?order=fifo" "/tmp/noria-$(id -u)"
says "^carried by  *fifo:/tmp/noria-$(id -u)/" told

echo "$checks checks"
exit $status

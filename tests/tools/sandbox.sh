#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: a renderer that crashes, loops, calls what it may not or writes over the channel costs its own page, none of the others.
# usage: sandbox.sh SANDBOX
set -u
status=0
# A sanitizer's report of the crash asks for more than is allowed.
wicked='crash: .*\(Segmentation fault\|Bad system call\)
open: .*Bad system call
spin: .*CPU time limit exceeded
scribble: .*'
pages=("draw first")
while read -r line; do
    pages+=("${line%%:*}" "draw after ${line%%:*}")
done <<<"$wicked"
got=$(timeout 300 "$1" "${pages[@]}")
rc=$?
[ $rc != 77 ] || exit 77
[ $rc = 0 ] || { echo "FAILED: the parent ends with $rc"; status=1; }
expect() { grep -qx -- "$1" <<<"$got" || { echo "FAILED: no '$1'"; status=1; }; }
expect 'draw first: FIRST'
while read -r line; do
    name=${line%%:*}
    expect "$line"
    expect "draw after $name: AFTER ${name^^}"
done <<<"$wicked"
echo "$got"
exit $status

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: a ring header and atomic.h, copied into a bare folder, are all a program needs, in C11 and in C++17.
# usage: embed.sh SOURCE_ROOT RING
set -eu
source_root=$1
ring=$2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/noria"
cp "$source_root/ring/$ring.h" "$source_root/sync/atomic.h" "$work/noria/"
cp "$source_root/tests/install/embed_$ring.c" "$work/"
cd "$work"

warnings="-Wall -Wextra -Wpedantic -Wconversion -Werror"
tried=0
try() { # compiler, language options...
    command -v "$1" >/dev/null || return 0
    echo "$*"
    "$@" $warnings -O2 -I. "embed_$ring.c" -o program
    timeout 20 ./program
    tried=$((tried + 1))
}
try gcc -std=c11 -x c
try g++ -std=c++17 -x c++
try clang -std=c11 -x c
try clang++ -std=c++17 -x c++
[ "$tried" -gt 0 ] || { echo "neither gcc nor clang here"; exit 77; }

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: every public header compiles alone and without a warning, in C11 and in C++17, with gcc and with clang. A
# big-endian machine is refused by name.
# usage: headers.sh SOURCE_ROOT
set -eu
cd "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

warnings="-Wall -Wextra -Wpedantic -Wconversion -Werror"
tried=0
status=0
try() { # compiler, language options...
    command -v "$1" >/dev/null || return 0
    "$@" $warnings -O1 -Iinclude -Iring -c "$work/only" -o "$work/only.o" || { echo "FAILED: $header with $*"; status=1; }
    tried=$((tried + 1))
}

for header in include/noria/*.h ring/noria/*.h; do
    # A strict mode with no feature macro, and the header before anything else.
    printf '#include <noria/%s>\n#include <noria/%s>\nint not_empty;\n' "${header##*/}" "${header##*/}" >"$work/only"
    try gcc -std=c11 -x c
    try g++ -std=c++17 -x c++
    try clang -std=c11 -x c
    try clang++ -std=c++17 -x c++
done

as_big_endian='-U__BYTE_ORDER__ -D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__'
printf '#include <noria/atomic.h>\nint not_empty;\n' >"$work/only"
if gcc -x c -std=c11 -Iring $as_big_endian -c "$work/only" -o "$work/only.o" 2>"$work/said"; then
    echo "FAILED: atomic.h compiles for a big-endian machine"
    status=1
elif ! grep -q 'big-endian machines are not supported' "$work/said"; then
    echo "FAILED: a big-endian machine is not named:"
    cat "$work/said"
    status=1
fi
echo "$tried combinations compiled"
[ "$tried" -gt 0 ] || exit 77
exit $status

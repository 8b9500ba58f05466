#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: the shared library exports only noria_* symbols, each of them declared in a public header, has a soname, and does
# not need libnats.
# usage: symbols.sh SOURCE_ROOT LIBRARY
set -eu
command -v nm >/dev/null || { echo "no nm here"; exit 77; }
source_root=$1
library=$2

exported=$(nm -D --defined-only "$library" | sed 's/.* //; s/@.*//' | sort -u)
[ -n "$exported" ] || { echo "the library has no function yet"; exit 77; }
printf 'exported: %s\n' $exported
status=0
for symbol in $exported; do
    case $symbol in
        noria_*) grep -qw "$symbol" "$source_root"/include/noria/*.h || { echo "FAILED: $symbol is in no public header"; status=1; } ;;
        *) echo "FAILED: $symbol is visible"; status=1 ;;
    esac
done
objdump -p "$library" | grep -q 'SONAME *libnoria.so.0$' || { echo "FAILED: no soname libnoria.so.0"; status=1; }
! objdump -p "$library" | grep 'NEEDED *libnats' || { echo "FAILED: libnats is to be loaded only where it is used"; status=1; }
exit $status

#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# A target of libFuzzer on 100,000 inputs, NORIA_LONG a million; what it finds on its way is not kept, what it breaks at is.
# usage: libfuzzer.sh TARGET CORPUS
found=$(mktemp -d) || exit 1
trap 'rm -rf "$found"' EXIT
"$1" "-runs=1${NORIA_LONG:+0}00000" -seed=1 -print_final_stats=1 "-artifact_prefix=$1-" "$found" "$2"

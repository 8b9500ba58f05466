#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Claim: every client of this folder, with the shipped ring headers, holds under the C11 memory models RC11 and IMM.
# The lines "check: FLAGS" of a client's head are its runs; "long: FLAGS" come with NORIA_LONG=1.
#
#   genmc.sh [CLIENT.c ...]        environment: GENMC, CLANG, OPT (same LLVM), MODELS, RING (folder with noria/*.h),
#                                  NORIA_MODEL_SECONDS for one run
#
# The code goes to the checker after inlining and after private variables went to registers (sroa); every access to
# memory that threads share stays as written. Otherwise the checker would follow each local variable as memory. For the same
# reason the slow paths are inlined here, which the headers keep apart for speed: the word for that means nothing here.
set -eu

here=$(dirname "$(realpath "$0")")
genmc=$(command -v "${GENMC:-genmc}") || { echo "skipped: genmc is not installed (docs/ORDERING.md)"; exit 77; }
clang=${CLANG:-clang-14}
opt=${OPT:-opt-14}
ring=$(realpath "${RING:-$here/../../ring}")
headers=$(dirname "$(realpath "$genmc")")/../include/genmc/include
seconds=${NORIA_MODEL_SECONDS:-1500}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
ulimit -v 8000000

plan() {
    kinds=check
    test "${NORIA_LONG:-0}" = 1 && kinds='check\|long'
    sed -n "s/^ \* \($kinds\): *//p" "$1" | grep . || echo ''
}

# Word splitting of the flags is meant.
# shellcheck disable=SC2086
translate() {
    "$clang" -c -emit-llvm -O1 -Xclang -disable-llvm-passes -std=gnu11 -D__CONFIG_GENMC_INODE_DATA_SIZE=64 \
        -DMODEL_CHECKER -Dnoinline=unused $2 -I"$headers" -I"$ring" -I"$here" "$1" -o "$dir/raw.bc"
    "$opt" -passes='function(sroa,simplifycfg),cgscc(inline),function(sroa,early-cse,simplifycfg),globaldce' \
        -inline-threshold=100000 "$dir/raw.bc" -o "$dir/client.bc"
}

# One run; says what came out of it. Exit status of the checker: 0 holds, 42 error found.
run() {
    status=0
    timeout "$seconds" "$genmc" --"$1" --disable-estimation --disable-spin-assume --disable-loop-jump-threading \
        --disable-instruction-caching --input-from-bitcode-file "$dir/client.bc" >"$dir/report" 2>&1 || status=$?
    executions=$(sed -n 's/^Number of complete executions explored: //p' "$dir/report")
    wall=$(sed -n 's/^Total wall-clock time: //p' "$dir/report")
    why=$(sed -n 's/^Error: //p; s/^Assertion violation: //p' "$dir/report" | tr '\n' ' ')
}

test $# -gt 0 || set -- "$here"/spsc_*.c "$here"/mpmc_*.c "$here"/broadcast_*.c "$here"/rendezvous_*.c "$here"/chain_*.c
for client; do
    name=$(basename "$client" .c)
    plan "$client" >"$dir/plan"
    while read -r flags; do
        translate "$client" "$flags"
        for model in ${MODELS:-rc11 imm}; do
            run "$model"
            case $status in
            0) echo "holds   $name $flags ($model): $executions executions, $wall" ;;
            42) echo "FAILED  $name $flags ($model): $why"; exit 1 ;;
            124) echo "NO END  $name $flags ($model): not finished in $seconds s"; exit 2 ;;
            *) echo "BROKEN  $name $flags ($model): the checker ended with $status"; tail -3 "$dir/report"; exit 2 ;;
            esac
        done
    done <"$dir/plan"
done

#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# For each access of a ring header that is stronger than relaxed: makes it one step weaker in a copy of the headers and
# runs the clients under GenMC. One line each: place, order, caught by whom, or NOT CAUGHT. The list with the reasons why
# the uncaught ones are needless or stay stands in docs/ORDERING.md.
#
#   weaken.sh spsc|mpmc [FIRST_LINE [LAST_LINE]]     environment as for genmc.sh
set -eu

here=$(dirname "$(realpath "$0")")
ring=$1
first=${2:-1}
last=${3:-100000}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/as-shipped" "$dir/noria"
cp "$here/../../ring/spsc.h" "$here/../../ring/mpmc.h" "$here/../../sync/atomic.h" "$dir/as-shipped"
header=$dir/as-shipped/$ring.h

accesses='noria_\(load_acquire\|store_release\|cas_acquire\|cas_acq_rel\|add_release\|or_acq_rel\)[0-9]*('

# The steps down from an access: new name, new order on success, new order on failure.
steps() {
    case $1 in
    noria_load_acquire64) echo noria_load_relaxed64 - - ;;
    noria_load_acquire32) echo noria_load_relaxed32 - - ;;
    noria_store_release64) echo noria_store_relaxed64 - - ;;
    noria_store_release32) echo noria_store_relaxed32 - - ;;
    noria_add_release64) echo noria_add_relaxed64 - - ;;
    noria_cas_acquire64)
        echo noria_cas_weakened64 RELAXED ACQUIRE
        echo noria_cas_weakened64 ACQUIRE RELAXED ;;
    noria_cas_acq_rel64)
        echo noria_cas_weakened64 ACQUIRE ACQUIRE
        echo noria_cas_weakened64 RELEASE ACQUIRE
        echo noria_cas_weakened64 ACQ_REL RELAXED ;;
    *) echo "$1: no step down is known" >&2; exit 1 ;;
    esac
}

# The headers as shipped, and one more compare-and-swap in them whose orders are given on the command line.
copy() {
    cp "$dir"/as-shipped/*.h "$dir/noria/"
    cat >>"$dir/noria/atomic.h" <<'END'
#if defined(SUCCESS) && !defined(NORIA_CAS_WEAKENED)
#define NORIA_CAS_WEAKENED
static inline bool noria_cas_weakened64(uint64_t *word, uint64_t *expected, uint64_t desired)
{
    return __atomic_compare_exchange_n(word, expected, desired, false, SUCCESS, FAILURE);
}
#endif
END
}

# The function that line $1 stands in.
function_at() {
    sed -n "1,$1p" "$header" | sed -n 's/^static inline .*[ *]\(noria_[a-z_0-9]*\)(.*/\1/p' | tail -1
}

# As shipped, all clients must hold: otherwise what follows says nothing.
copy
RING=$dir "$here/genmc.sh" "$here/$ring"_*.c >"$dir/out" || { cat "$dir/out"; exit 1; }

grep -n "$accesses" "$header" | cut -d: -f1 >"$dir/lines"
while read -r line; do
    if [ "$line" -lt "$first" ] || [ "$line" -gt "$last" ]; then
        continue
    fi
    access=$(sed -n "${line}s/.*\($accesses\).*/\1/p" "$header" | tr -d '(')
    steps "$access" >"$dir/steps"
    while read -r name success failure; do
        copy
        sed -i "${line}s/$access(/$name(/" "$dir/noria/$ring.h"
        weakening=''
        order=$name
        if [ "$success" != - ]; then
            weakening="-DSUCCESS=__ATOMIC_$success -DFAILURE=__ATOMIC_$failure"
            order="success $success, failure $failure"
        fi
        verdict='NOT CAUGHT'
        for client in "$here/$ring"_*.c; do
            RING=$dir WEAKENING=$weakening "$here/genmc.sh" "$client" >"$dir/out" 2>&1 && continue
            if ! grep -q '^FAILED' "$dir/out"; then
                cat "$dir/out"
                exit 1
            fi
            verdict="caught: $(sed -n 's/^FAILED *//p' "$dir/out")"
            break
        done
        echo "$ring.h:$line $(function_at "$line") $access -> $order: $verdict"
    done <"$dir/steps"
done <"$dir/lines"

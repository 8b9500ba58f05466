#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Claim: no access of a ring header is stronger than it must be, but for the steps down that the file needless names, and those
# are needless indeed. For each access stronger than relaxed, in a copy of the headers:
#   - each step down that is not in needless must be caught: a client fails under GenMC (RC11);
#   - each line "together" of needless must be caught: halves that cover each other;
#   - the steps of the lines "both", "first", "second" of needless, all "both" and "first" at once and then all "both" and
#     "second" at once, must change nothing for any client. A single one then changes nothing either: it allows less.
#
#   weaken.sh spsc|mpmc|...           all of this: the evidence for docs/ORDERING.md
#   weaken.sh RING STEP ...           these steps at once: which client catches them?
#
# Environment as for genmc.sh; CLIENTS='NAME ...': these alone are asked.
#
# A step is PLACE:ORDER. PLACE is a function without its prefix and the number of the access in it. ORDER is what a load, store or
# addition becomes (relaxed), or what of acq_rel stays (acquire, release), or failure: relaxed where a swap fails; or gone, of a fence.
set -eu

here=$(dirname "$(realpath "$0")")
ring=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/as-shipped" "$dir/noria"
cp "$here"/../../ring/*.h "$here/../../sync/atomic.h" "$dir/as-shipped"
grep "^$ring " "$here/needless" >"$dir/needless" || :

# The accesses stronger than relaxed: line, place, name.
awk '/^(static inline|NORIA_SLOW_PATH)/ && match($0, /noria_[a-z_0-9]*\(/) {
        place = substr($0, RSTART, RLENGTH - 1); sub(/noria_(spsc|mpmc|broadcast|rendezvous|chain)_/, "", place); n = 0 }
    match($0, /noria_(load_acquire|store_release|cas_acq_rel|add_(release|acquire)|fence_[a-z]+)(_cst)?[0-9]*\(/) {
        print NR, place "." ++n, substr($0, RSTART, RLENGTH - 1) }' "$dir/as-shipped/$ring.h" >"$dir/places"

steps_of() {
    case $2 in
    noria_cas_*) echo "$1:acquire $1:release $1:failure" ;;
    noria_fence_*) echo "$1:gone" ;;
    *) echo "$1:relaxed" ;;
    esac
}

# What the access $1 becomes by the steps $2 that are meant for it.
weakened() {
    success=ACQ_REL failure=ACQUIRE
    case $2 in *acquire*) success=ACQUIRE ;; *release*) success=RELEASE ;; esac
    case $2 in *acquire*release* | *release*acquire*) success=RELAXED ;; esac
    case $2 in *failure*) failure=RELAXED ;; esac
    case $1 in
    noria_cas_*) echo "noria_cas_weakened64(__ATOMIC_$success, __ATOMIC_$failure, " ;;
    noria_fence_*) echo "noria_fence_compiler(" ;;
    *) echo "$1(" | sed 's/acquire\|release/relaxed/' ;;
    esac
}

# A copy of the headers with the steps $* in them.
weaken() {
    cp "$dir"/as-shipped/*.h "$dir/noria/"
    cat >>"$dir/noria/atomic.h" <<'END'
#ifndef noria_cas_weakened64
/* GenMC reads a swap that fails as it reads one that succeeds. So where a failure is to be weaker, a relaxed load may fail first,
 * and where it is to be stronger, a fence follows it. */
static inline bool noria_fails_relaxed(const uint64_t *word, uint64_t *expected)
{
    uint64_t now = __atomic_load_n(word, __ATOMIC_RELAXED);
    bool fails = now != *expected;

    *expected = now;
    return fails;
}
static inline bool noria_failed(int failure)
{
    if (failure == __ATOMIC_ACQUIRE)
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return false;
}
#define noria_cas_weakened64(success, failure, word, expected, desired) \
    (!((failure) == __ATOMIC_RELAXED && noria_fails_relaxed(word, expected)) && \
     (__atomic_compare_exchange_n(word, expected, desired, false, success, __ATOMIC_RELAXED) || noria_failed(failure)))
#endif
END
    for place in $(for step; do echo "${step%:*}"; done | sort -u); do
        orders=$(for step; do echo "$step"; done | sed -n "s/^$place://p" | tr '\n' ' ')
        where=$(awk -v place="$place" '$2 == place { print $1, $3 }' "$dir/places")
        test -n "$where" || { echo "there is no access $place in $ring.h"; exit 2; }
        line=${where% *} access=${where#* }
        sed -i "${line}s/$access(/$(weakened "$access" "$orders")/" "$dir/noria/$ring.h"
    done
    ! cmp -s "$dir/as-shipped/$ring.h" "$dir/noria/$ring.h"
}

# Runs the clients on the copy; leaves in $verdict who catches it.
catch() {
    verdict='not caught'
    while read -r _ client; do
        RING=$dir "$here/genmc.sh" "$client" >"$dir/out" 2>&1 && continue
        grep -q '^FAILED' "$dir/out" || { cat "$dir/out"; exit 2; }
        verdict="caught by $(sed -n 's/^FAILED *//p' "$dir/out" | tr -s ' ')"
        return
    done <"$dir/clients"
}

wrong=0
must_be() {
    expected=$1
    shift
    weaken "$@"
    catch
    echo "$*: $verdict"
    case $verdict in "$expected"*) ;; *) echo "WRONG: should be $expected"; wrong=1 ;; esac
}

if [ -n "${CLIENTS:-}" ]; then
    for client in $CLIENTS; do echo "$here/$client.c"; done
else
    printf '%s\n' "$here/$ring"_*.c
fi >"$dir/asked"
sed 's/^/0 /' "$dir/asked" >"$dir/clients"
if [ $# -gt 0 ]; then
    weaken "$@"
    catch
    echo "$*: $verdict"
    exit 0
fi
export MODELS=rc11

# As shipped, all clients must hold: otherwise what follows says nothing. The quick ones first from then on.
cp "$dir"/as-shipped/*.h "$dir/noria/"
while read -r client; do
    start=$(date +%s%N)
    RING=$dir "$here/genmc.sh" "$client" >"$dir/out" || { cat "$dir/out"; exit 1; }
    echo "$((($(date +%s%N) - start) / 1000000)) $client"
done <"$dir/asked" | sort -n >"$dir/clients"

for step in $(while read -r _ place access; do steps_of "$place" "$access"; done <"$dir/places"); do
    grep -v ' together ' "$dir/needless" | grep -q " $step\( \|\$\)" || must_be caught "$step"
done
sed -n "s/^$ring together //p" "$dir/needless" >"$dir/pairs"
while read -r pair; do
    # Word splitting is meant here and below.
    # shellcheck disable=SC2086
    must_be caught $pair
done <"$dir/pairs"
export MODELS='rc11 imm'
for half in first second; do
    # shellcheck disable=SC2046
    must_be 'not caught' $(sed -n "s/^$ring \(both\|$half\) //p" "$dir/needless")
done
exit $wrong

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: what `meson install` puts down is enough to build and run the README's program, shared and static.
# usage: installed.sh SOURCE_ROOT BUILD_ROOT MESON
set -eu
source_root=$1
build_root=$2
meson=$3

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
"$meson" install -C "$build_root" --no-rebuild --quiet --destdir "$stage"
pc=$(find "$stage" -name noria.pc)
libdir=$(dirname "$(dirname "$pc")")
include=$(dirname "$(find "$stage" -path '*/include/noria' -type d)")
cd "$stage"

for header in noria.h inspect.h atomic.h spsc.h mpmc.h latest.h rendezvous.h chain.h broadcast.h; do
    [ -f "$include/noria/$header" ] && [ ! -L "$include/noria/$header" ] || { echo "FAILED: $header is not installed"; exit 1; }
done
[ -f "$libdir/libnoria.a" ] || { echo "FAILED: no static library"; exit 1; }
[ "$(readlink "$libdir/libnoria.so")" = libnoria.so.0 ] || { echo "FAILED: libnoria.so does not lead to soname 0"; exit 1; }

sed -n '/^```c$/,/^```$/p' "$source_root/README.md" | sed -e '/^```$/q' | grep -v '^```' >program.c || true
[ -s program.c ] || { echo "README.md has no C program yet"; exit 77; }

# The staged tree stands for the root of another machine.
export PKG_CONFIG_SYSROOT_DIR=$stage PKG_CONFIG_PATH=${pc%/*}
cc=${CC:-cc}
build_and_run() { # what, libraries...
    local what=$1
    shift
    echo "$what: $cc program.c $(pkg-config --cflags noria) $*"
    $cc -std=c11 -Wall -Wextra -Werror $(pkg-config --cflags noria) program.c "$@" -o program
    if ldd ./program | grep -q libnoria; then linked=shared; else linked=static; fi
    [ "$linked" = "$what" ] || { echo "FAILED: linked $linked instead of $what"; exit 1; }
    LD_LIBRARY_PATH=$libdir timeout 20 ./program </dev/null
}
build_and_run shared $(pkg-config --libs noria)
rm "$libdir"/libnoria.so*
build_and_run static $(pkg-config --static --libs noria)

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: a folder's sources cannot include a header of a folder they may not see; what they may see, they can include.
# usage: layering.sh SOURCE_ROOT BUILD_ROOT
# Each include is tried with exactly the include flags that meson gives the folder's own sources.
set -eu
source_root=$1
cd "$2"

# folder; the folders whose headers it may include
may_see='
sync;      sync
ring;      ring
shmseg;    shmseg sync
transport; transport sync include/noria
channel;   channel transport ring shmseg sync include/noria
adapters;  adapters transport sync include/noria
api;       api channel adapters transport ring shmseg sync include/noria
tools;     tools ring include/noria
examples;  examples ring include/noria'
folders='sync ring shmseg transport channel adapters api tools include/noria'

# The include flags of one source of the folder; a unit test may see more, so it only speaks for ring/, which
# has nothing else to compile.
include_flags() { # folder
    local sources="/$1/[^/]*\.c"
    grep '"command"' compile_commands.json | grep -E "\.\./*[^ ]*$sources\"|$source_root$sources\"" |
        { if [ "$1" = ring ]; then cat; else grep -v '_test\.c"'; fi; } |
        sed -n '1s/"command"://p' | tr ' ' '\n' | grep -E '^(-I|-isystem)' | grep -v '\.p$' | tr '\n' ' '
}

includes() { # name as it stands in the include line, flags...
    local name=$1
    shift
    printf '#include %s\n' "$name" | ${CC:-cc} -D_GNU_SOURCE "$@" -x c -E -o /dev/null - 2>/dev/null
}

checks=0
status=0
while IFS='; ' read -r folder allowed; do
    [ -n "$folder" ] || continue
    flags=$(include_flags "$folder" || true)
    [ -n "$flags" ] || continue
    for other in $folders; do
        for header in "$source_root/$other"/*.h; do
            [ -f "$header" ] || continue
            name=${header##*/}
            if [ "$other" = include/noria ]; then name="<noria/$name>"; else name="\"$name\""; fi
            case " $allowed " in *" $other "*) expected=yes ;; *) expected=no ;; esac
            if includes "$name" $flags; then got=yes; else got=no; fi
            checks=$((checks + 1))
            [ "$got" = "$expected" ] || { echo "FAILED: $folder includes $name of $other: $got, not $expected"; status=1; }
        done
    done
    if grep -nE '# *include *"[^"]*/' "$source_root/$folder"/*.[ch]; then
        echo "FAILED: $folder includes by path, past the include flags"
        status=1
    fi
done <<<"$may_see"

# A ring sees one header of sync/, the public one, and that under its public name only.
flags=$(include_flags ring || true)
if [ -n "$flags" ]; then
    includes '<noria/atomic.h>' $flags || { echo "FAILED: a ring cannot include <noria/atomic.h>"; status=1; }
fi
echo "$checks includes tried"
[ "$checks" -gt 0 ] || { echo "no source yet"; exit 77; }
exit $status

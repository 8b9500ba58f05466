#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: every source file says its licence in one of its first three lines.
# usage: licences.sh SOURCE_ROOT
set -eu
cd "$1"
files() {
    if command -v git >/dev/null && git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files
    else
        find . -name 'build*' -prune -o -name .git -prune -o -type f -print
    fi
}

seen=0
status=0
while read -r file; do
    [ -f "$file" ] && [ ! -L "$file" ] || continue
    case $file in
        *.c | *.h | *.cc | *.cpp | *.hpp | *.pml | *.sh | *.py | *meson.build | *meson_options.txt) ;;
        *) [ "$(dd if="$file" bs=2 count=1 2>/dev/null | tr -d '\0')" = '#!' ] || continue ;;
    esac
    seen=$((seen + 1))
    sed 3q "$file" | grep -q 'SPDX-License-Identifier: BSD-2-Clause' || { echo "FAILED: $file"; status=1; }
done < <(files)
echo "$seen files"
[ "$seen" -gt 0 ] || status=1
exit $status

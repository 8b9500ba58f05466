#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: every source file, and every other that begins with "#!", says its licence in one of its first three lines.
# usage: licences.sh SOURCE_ROOT
set -eu
cd "$1"
files() {
    if command -v git >/dev/null && git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files -z
    else
        find . -name 'build*' -prune -o -name .git -prune -o -type f -print0
    fi | while IFS= read -r -d '' file; do
        if [ -s "$file" ] && [ ! -L "$file" ]; then printf '%s\0' "$file"; fi
    done
}

# One process for all of them. A file of several kinds of text is read no further than its third line.
files | xargs -0 awk '
    function judge() {
        if (file == "" || !source) return
        seen++
        if (!licensed) { print "FAILED: " file; status = 1 }
    }
    FNR == 1 {
        judge()
        file = FILENAME
        source = /^#!/ || file ~ /\.(c|h|cc|cpp|hpp|pml|sh|py)$/ || file ~ /(meson\.build|meson_options\.txt)$/
        licensed = 0
    }
    FNR > 3 { nextfile }
    /SPDX-License-Identifier: BSD-2-Clause/ { licensed = 1 }
    END { judge(); print seen + 0 " files"; exit status || seen == 0 }'

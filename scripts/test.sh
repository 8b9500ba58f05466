# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Sourced by ./run: the stages of `./run test`. Each is one build directory and the meson suites run in it;
# the counts come from meson's own log of each stage.

passed=0
failed=0
skipped=0
failures=()
meson_test=(meson test --no-rebuild --print-errorlogs)

begin() { printf '\n== %s\n' "$*"; stage_started=$SECONDS; }
skip() { printf '\n== skipped: %s\n' "$*"; skipped=$((skipped + 1)); }
# What a machine may lack, but not one that decides what is taken in.
lacks() { if [ -n "${CI:-}" ]; then fail "$*"; else skip "$*"; fi; }
fail() { printf 'FAILED: %s\n' "$*"; failures+=("$*"); failed=$((failed + 1)); }

names() { # test log, results
    sed -nE "s/^\{\"name\": \"([^\"]*)\".*\"result\": \"($2)\".*/\1/p" "$1"
}

count() { # stage, test log
    local name
    passed=$((passed + $(names "$2" 'OK|EXPECTEDFAIL' | wc -l)))
    skipped=$((skipped + $(names "$2" 'SKIP' | wc -l)))
    while read -r name; do
        failures+=("$name ($1)")
        failed=$((failed + 1))
    done < <(names "$2" 'FAIL|ERROR|TIMEOUT|INTERRUPT|UNEXPECTEDPASS')
}

# What tests that passed have measured.
figures() { # test log
    grep -hE 'positions tried|kills, [0-9]+ stops' "$1" | sed 's/^/   /'
    grep -hoE '[0-9.]+ % of a core' "$1" | sort -n | sed -n '$ s/^/   a blocked process uses at most /p'
    grep -hoE 'noticed after [0-9.]+ ms' "$1" | sort -n -k 3 | sed -n '$ s/^/   a death that somebody waits for: at most /p'
}

# Builds DIR and runs the suites in it (none named: all).
stage() { # title, directory, suites, meson options...
    local title=$1 dir=$2 suites=$3 log suite status failed_before=$failed arguments=()
    shift 3
    begin "$title"
    build_in "$dir" "$@" || { fail "$title does not build"; return 1; }
    for suite in $suites; do arguments+=(--suite "$suite"); done
    log=$dir/meson-logs/testlog.json
    rm -f "$log"
    "${meson_test[@]}" -C "$dir" "${arguments[@]}" </dev/null | grep -vE '^(ninja|Full log|Expected Fail|Unexpected Pass|$)'
    status=${PIPESTATUS[0]}
    figures "$dir/meson-logs/testlog.txt"
    if [ -f "$log" ]; then count "$title" "$log"; else skip "$title: no test yet"; fi
    if [ "$status" != 0 ] && [ "$failed" = "$failed_before" ]; then fail "$title: meson test ended with $status"; fi
    echo "   $((SECONDS - stage_started)) s"
}

runs_under() { # sanitizer, command that wraps the program...
    local sanitizer=$1 program status
    shift
    program=$(mktemp)
    ${CC:-cc} "-fsanitize=$sanitizer" -x c -o "$program" - <<<'int main(void) { return 0; }' 2>/dev/null &&
        "$@" "$program" >/dev/null 2>&1
    status=$?
    rm -f "$program"
    return $status
}

memory_stage() {
    runs_under address,undefined env || { lacks "AddressSanitizer: programs built with it do not run here"; return; }
    stage "AddressSanitizer and UndefinedBehaviorSanitizer, ${CC:-cc}" build-asan 'unit fuzz threads' \
        -Db_sanitize=address,undefined -Dc_args=-fno-sanitize-recover=undefined -Dfuzz=true
}

thread_stage() {
    # Where the kernel spreads addresses wider than the sanitizer knows, it needs them not spread at all.
    if ! runs_under thread env; then
        runs_under thread setarch -R ||
            { lacks "ThreadSanitizer: programs built with it do not run here"; return; }
        meson_test+=(--wrapper 'setarch -R')
    fi
    stage "ThreadSanitizer, ${CC:-cc}" build-tsan 'threads' -Db_sanitize=thread
}

# Files whose error paths no test reaches to that degree yet: their coverage is printed, but not asked for. To get shorter.
not_covered_yet='shmseg/memory\.c|channel/anatomy\.c'

coverage_stage() {
    local folder
    command -v gcovr >/dev/null || { lacks "branch coverage: gcovr is not there"; return; }
    stage "Coverage" build-cov 'unit' -Dbench=true -Doptimization=0 -Db_coverage=true -Db_ndebug=true || return
    for folder in ring shmseg channel; do
        if gcovr --root . --filter "$folder/" --exclude '.*_test\.[ch]$' --exclude "$not_covered_yet" --branches \
            --fail-under-branch 90 build-cov; then
            passed=$((passed + 1))
        else
            fail "branch coverage of $folder/ is below 90 %"
        fi
    done
    echo "Printed only:"
    gcovr --root . --filter "$not_covered_yet" --filter 'adapters/' --exclude '.*_test\.[ch]$' --branches build-cov
}

run_tests() {
    case ${1:-} in
        '') ;;
        --long) export NORIA_LONG=1; meson_test+=(--timeout-multiplier 20) ;;
        *) usage >&2; exit 2 ;;
    esac
    export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
    stage "All suites, optimised" build ''
    coverage_stage
    ! is_there clang || export CC=clang     # so that both compilers have seen everything
    memory_stage
    thread_stage
    printf '\nAll stages: %s s\n' "$SECONDS"
    [ "${#failures[@]}" = 0 ] || printf 'failed: %s\n' "${failures[@]}"
    [ "$skipped" = 0 ] || echo "$skipped skipped"
    [ $((passed + failed)) -gt 0 ] || { echo "No test was run."; failed=1; }
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: the command `noria` is a pipe with a name that alters no byte, and says truly how it ended.
# usage: tool.sh NORIA
# shellcheck disable=SC2317
set -u
noria=$(realpath "$1") && [ -x "$noria" ] || exit 1
work=$(mktemp -d)
name=shm:/noria-test-$$
made=0
checks=0
status=0
children=()

cleanup() {
    [ "${#children[@]}" = 0 ] || kill -9 "${children[@]}" 2>/dev/null
    for file in "/dev/shm/noria-test-$$"*; do
        [ ! -e "$file" ] || "$noria" rm --force "shm:/${file##*/}"
    done
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1

bad() { printf 'FAILED: %s\n' "$*"; status=1; }
is() { # what, expected, got
    checks=$((checks + 1))
    [ "$2" = "$3" ] || bad "$1: expected '$2', got '$3'"
}
fresh() { made=$((made + 1)); x=$name-$made; } # x: a channel name not used before
ends_with() { # exit status, command...: one sentence on stderr unless it is 0
    local wanted=$1 got
    shift
    timeout 60 "$@" >out 2>err </dev/null
    got=$?
    is "exit status of ${*:2}" "$wanted" "$got"
    [ "$wanted" != 1 ] || is "lines on stderr of ${*:2}" 1 "$(wc -l <err)"
    [ "$wanted" = 0 ] || [ -s err ] || bad "${*:2} says nothing on stderr"
}
says() { checks=$((checks + 1)); grep -q -e "$1" err || bad "no '$1' in: $(cat err)"; }
until_true() { # command...: polls for a state that another process brings about
    for _ in $(seq 1000); do
        "$@" && return 0
        sleep 0.01
    done
    bad "never came true: $*"
    return 1
}
attached() { [ "$("$noria" who "$x" 2>/dev/null | wc -l)" -gt "$1" ]; } # at least so many handles

copy() { # what, file, options of send -- options of recv: through the channel and compared
    local what=$1 file=$2 to=() from=()
    shift 2
    while [ $# -gt 0 ] && [ "$1" != -- ]; do to+=("$1"); shift; done
    [ $# = 0 ] || shift
    from=("$@")
    fresh
    "$noria" create "$x" --capacity 64 --max-message 64K "${to_create[@]}" || bad "create for $what"
    timeout 60 "$noria" recv "$x" "${from[@]}" >copy &
    local reader=$!
    until_true attached 1
    timeout 60 "$noria" send "$x" "${to[@]}" <"$file" || bad "send of $what"
    wait "$reader" || bad "recv of $what"
    checks=$((checks + 1))
    cmp "$file" copy || bad "$what does not come out as it went in"
    "$noria" rm "$x" || bad "rm after $what"
}
to_create=()

# --- every byte comes out as it went in
seq 20000 >lines
printf 'last line open' | cat lines - >open
printf '\n\n\na\n\n' >empty_lines
printf '\0\n\0\0\n\nx\0' >nuls
printf '\004\n\n\004\n\004' >marks
: >empty
printf 'no newline' >one
head -c 65536 /dev/zero | tr '\0' z >longest_open
{ head -c 65536 /dev/zero | tr '\0' z; echo; } >longest
{ cat "$noria"; head -c 100000 /dev/urandom; } >binary
for file in lines open empty_lines nuls marks empty one longest longest_open; do
    copy "$file" $file
done
copy "binary, by length, of one message" /dev/null --length -- --length
for kind in spsc mpmc; do
    to_create=(--kind "$kind" --max-message 1M)
    copy "binary in lines, $kind" binary
    copy "binary in pieces, $kind" binary --raw 1000 -- --raw
    copy "binary in pieces, $kind, the size named twice" binary --raw 64K -- --raw 64K
done
to_create=()
printf '\003\0\0\0a\nb\0\0\0\0\001\0\0\0z' >framed
copy "messages by length" framed --length -- --length

# --- started in any order, and made when missing
fresh
timeout 60 "$noria" recv "$x" >copy &
reader=$!
timeout 60 "$noria" send "$x" lines || bad "send of a file by name"
wait "$reader" || bad "recv that was there first"
cmp lines copy || bad "the receiver first"
is "max message" 65536 "$("$noria" stat "$x" | sed -n 's/^max message *//p')"
is "capacity" 256 "$("$noria" stat "$x" | sed -n 's/^capacity *//p')"
is "sent" 20000 "$("$noria" stat "$x" | sed -n 's/^sent *//p')"
fresh
printf 'one\ntwo\nthree\n' | "$noria" send "$x" || bad "send without a receiver"
is "used" 3 "$("$noria" stat "$x" | sed -n 's/^messages *//p')"
is "--count" "one" "$("$noria" recv "$x" --count 1)"
is "the rest" "two three" "$("$noria" recv "$x" | tr '\n' ' ' | sed 's/ $//')"

# --- whose it is
fresh
ends_with 0 "$noria" create "$x" --mode 0660 --group "$(id -gn)"
is "group" "$(id -g)" "$("$noria" stat "$x" | sed -n 's/^group *//p')"
is "group, as JSON" 1 "$("$noria" stat "$x" --json | grep -c "\"gid\": *$(id -g)[,}]*")"
fresh
ends_with 2 "$noria" create "$x" --group no-such-group
if [ "$(id -u)" = 0 ]; then
    ends_with 0 "$noria" create "$x" --group 12345
    is "another group" 12345 "$(stat -c %g "/dev/shm/${x#shm:/}")"
    ends_with 0 "$noria" rm "$x"
    setpriv --reuid 65534 --clear-groups "$noria" create "$x" --group 12345 >out 2>err # of another user gcov has more to say
    is "exit status for a group that is not one's own" 1 $?
    says 'cannot be given to group 12345'
fi

# --- every way to wait
for wait in futex mutex semaphore sysv-semaphore eventfd fifo spin yield adaptive; do
    to_create=(--wait "$wait")
    copy "a file, waiting by $wait" lines
    fresh
    "$noria" create "$x" --wait "$wait" --mode 0640 || bad "create --wait $wait"
    is "wait" "${wait/adaptive/futex}" "$("$noria" stat "$x" | sed -n 's/^wait *//p')"
    timeout 60 "$noria" recv "$x" --count 1 >copy &
    reader=$!
    until_true attached 1
    echo "$wait" | "$noria" send "$x"
    wait "$reader" || bad "recv that waits by $wait"
    is "what woke a reader" "$wait" "$(cat copy)"
    "$noria" rm "$x" || bad "rm of --wait $wait"
done
to_create=()
ends_with 2 "$noria" create "$x" --wait adaptively
ends_with 2 "$noria" create "$x" --wait ''

# --- every way to deliver
stat_says() { is "$1 of $x" "$2" "$("$noria" stat "$x" | sed -n "s/^$1 *//p")"; } # what, value
got() { # what, words, options of recv: everything that is there
    local what=$1 words=$2
    shift 2
    is "$what" "$words" "$(timeout 60 "$noria" recv "$x" "$@" | tr '\n' ' ' | sed 's/ $//')"
}
{ seq 500; printf 'last line open'; } >few
to_create=(--capacity 0)
copy "a file from hand to hand" few
for policy in "--evict 10s" "--full overwrite-oldest --capacity 4096"; do
    read -ra to_create <<<"--kind broadcast --max-message 64 $policy"
    copy "a file by broadcast $policy" few
done
to_create=()

fresh
"$noria" create "$x" --capacity 4 --full overwrite-oldest
seq 10 | "$noria" send "$x"
stat_says full overwrite-oldest
stat_says lost 6
got "the last four" "7 8 9 10"
fresh
"$noria" create "$x" --capacity 4 --full drop-newest
seq 10 | "$noria" send "$x"
stat_says lost 6
got "the first four" "1 2 3 4"
fresh
"$noria" create "$x" --capacity 4 --full fail
ends_with 1 "$noria" send "$x" few
got "those before the failure" "1 2 3 4"

fresh
"$noria" create "$x" --capacity 1 --full overwrite-oldest
"$noria" send "$x" few
for reader in first second; do
    got "the latest value, $reader reader" "last line open"
done

fresh
"$noria" create "$x" --priorities 4
stat_says priorities 4
for level in 1 3 0 2; do
    seq -f "$level/%g" 2 | "$noria" send "$x" --priority $level
done
got "by priority" "3/1 3/2 2/1 2/2 1/1 1/2 0/1 0/2"
ends_with 1 "$noria" send "$x" few --priority 4

fresh
"$noria" create "$x" --kind broadcast --evict 1s
stat_says kind broadcast
stat_says "evicts after" "1000000000 ns"
seq 5 | "$noria" send "$x"
got "from the oldest" "1 2 3 4 5" --start oldest
got "and once more" "1 2 3 4 5" --start 0
got "from the fourth" "4 5" --start 3
ends_with 1 "$noria" recv "$x" --timeout 20ms
is "ls of a broadcast" "$x shm broadcast 1024 5" "$("$noria" ls | awk -v x="$x" '$1 == x { print $1, $2, $3, $4, $5 }')"

for options in "--kind broadcast" "--capacity 1 --full overwrite-oldest"; do
    fresh
    read -ra words <<<"$options"
    "$noria" create "$x" "${words[@]}"
    "$noria" recv "$x" --follow >followed &
    reader=$!
    children+=("$reader")
    until_true attached 1
    for word in first second third; do
        echo $word | "$noria" send "$x"
        has_come() { grep -q "$word" followed; }
        until_true has_come # --follow goes on when a sender has left, and tells nothing twice
    done
    kill -9 $reader
    wait $reader 2>/dev/null
    is "followed, $options" "first second third" "$(tr '\n' ' ' <followed | sed 's/ $//')"
done

to_create=(--capacity 8 --max-message 64 --max-bytes 4M)
copy "a file through a channel that grows" few
to_create=()
fresh
"$noria" create "$x" --capacity 8 --max-message 64 --max-bytes 4M
stat_says "max bytes" 4194304
seq 5000 | "$noria" send "$x" --timeout 10s
checks=$((checks + 1))
timeout 60 "$noria" recv "$x" | cmp - <(seq 5000) || bad "what piled up in a channel that grows"

x=$name-0
ends_with 1 "$noria" create "$x" --capacity 0 --full overwrite-oldest
ends_with 1 "$noria" create "$x" --priorities 33
ends_with 1 "$noria" create "$x" --priorities 2 --pack 2
ends_with 1 "$noria" create "$x" --evict 1s
ends_with 1 "$noria" create "$x" --kind spsc --full overwrite-oldest
ends_with 2 "$noria" create "$x" --full overwrite
ends_with 2 "$noria" create "$x" --evict soon
ends_with 2 "$noria" send "$x" --priority high
ends_with 2 "$noria" recv "$x" --start soon

# --- many writers and many readers
fresh
"$noria" create "$x" --capacity 32
readers=()
for i in 1 2 3; do
    timeout 60 "$noria" recv "$x" >"got$i" &
    readers+=($!)
done
until_true attached 3
writers=()
for i in 1 2 3 4; do
    { until_true test -e go; seq -f "writer $i line %g" 3000; } | timeout 60 "$noria" send "$x" &
    writers+=($!)
done
until_true attached 7 # all there before one is done: readers leave when no writer is left
touch go
for pid in "${writers[@]}" "${readers[@]}"; do wait "$pid" || bad "one of many ended with $?"; done
for i in 1 2 3 4; do seq -f "writer $i line %g" 3000; done | sort >sent
sort got1 got2 got3 | cmp - sent || bad "many writers and readers: lines are lost, torn or doubled"
for i in 1 2 3 4; do
    grep -h "writer $i " got1 | sort -c -k4n || bad "one reader sees the lines of one writer out of order"
done
checks=$((checks + 5))

# --- a killed reader loses nothing: what it could not write comes to the next one
fresh
"$noria" create "$x" --capacity 32
"$noria" send "$x" <lines &
writer=$!
mkfifo stuck
exec 9<>stuck # holds the pipe open, and nobody reads it
"$noria" recv "$x" >stuck &
reader=$!
children+=("$writer" "$reader")
received=-1
stuck() { # it holds a message and has got no further since the last look
    local before=$received holding
    read -r holding received < <("$noria" who "$x" | awk -v pid="$reader" '$2 == pid { print $5, $6 $7 }')
    [ "$holding" = 1 ] && [ "$received" = "$before" ]
}
until_true stuck
kill -9 "$reader"
wait "$reader" 2>/dev/null
timeout 60 "$noria" recv "$x" >rest || bad "recv after a killed one"
wait "$writer" || bad "the writer of a killed reader"
dd if=stuck of=written iflag=nonblock bs=1M 2>/dev/null
exec 9<&-
sort -n written rest | uniq | cmp - lines || bad "lines are lost with a killed reader"
checks=$((checks + 1))
is "redelivered" 1 "$("$noria" stat "$x" | sed -n 's/^redelivered *//p')"

# --- output that cannot be written: said, and the message stays
fresh
echo precious | "$noria" send "$x"
if [ -w /dev/full ]; then
    timeout 60 "$noria" recv "$x" >/dev/full 2>err
    is "recv to a full disk" 1 $?
    says "stays in"
    "$noria" ls >/dev/full 2>err
    is "ls to a full disk" 1 $?
fi
is "after a full disk" precious "$("$noria" recv "$x")"

# --- wrong sizes
fresh
{ echo short; head -c 65537 /dev/zero | tr '\0' z; echo; echo after; } >long
timeout 60 "$noria" send "$x" long 2>err
is "a line too long" 1 $?
says "line 2 "
says "\-\-max-message"
says "\-\-raw"
is "what came before a line too long" short "$("$noria" recv "$x")"
printf '\377\377\377\177abc' >long
ends_with 1 "$noria" send "$x" long --length
says "message 1 "
printf '\010\0\0\0abc' >half
ends_with 1 "$noria" send "$x" half --length
says "in the middle of message 1"
ends_with 1 "$noria" send "$x" lines --raw 128K
says "\-\-max-message"

# --- exit statuses
ends_with 2 "$noria"
ends_with 2 "$noria" nonsense
ends_with 2 "$noria" send
ends_with 2 "$noria" send "$x" a b
ends_with 2 "$noria" send "$x" --nonsense
ends_with 2 "$noria" send "$x" --raw 0
ends_with 2 "$noria" send "$x" --timeout soon
ends_with 2 "$noria" recv
ends_with 2 "$noria" recv "$x" --count -1
ends_with 2 "$noria" create "$x" --kind ring
ends_with 2 "$noria" create "$x" --capacity 12Q
ends_with 2 "$noria" create "$x" --max-message 8G
ends_with 2 "$noria" create
ends_with 2 "$noria" rm
ends_with 2 "$noria" ls "$x"
ends_with 2 "$noria" stat
ends_with 2 "$noria" who
ends_with 2 "$noria" doctor "$x"
ends_with 2 "$noria" help nonsense
for command in create send recv ls stat who rm doctor help version; do
    ends_with 0 "$noria" help $command
    ends_with 0 "$noria" $command --help
done
ends_with 0 "$noria" version
ends_with 0 "$noria" --version
ends_with 0 "$noria" --help
ends_with 1 "$noria" create "$x"          # is there already
ends_with 1 "$noria" create "$name-0" --capacity 0 --kind spsc
ends_with 1 "$noria" create nowhere:/x
ends_with 1 "$noria" create shm:nameless
ends_with 1 "$noria" recv "$name-0" --wait 0
ends_with 1 "$noria" stat "$name-0"
ends_with 1 "$noria" who "$name-0"
ends_with 1 "$noria" rm "$name-0"
ends_with 1 "$noria" send "$x" no-such-file
fresh
"$noria" create "$x" --capacity 1 --max-message 8
ends_with 1 "$noria" recv "$x" --timeout 20ms
ends_with 1 "$noria" send "$x" lines --timeout 20ms

# --- who is there; rm spares the living
fresh
"$noria" create "$x"
"$noria" recv "$x" --follow >followed &
reader=$!
children+=("$reader")
until_true attached 1
is "who" "$reader receiver yes" "$("$noria" who "$x" | awk 'NR == 2 { print $2, $3, $4 }')"
is "ls" "$x shm mpmc 1024 0 0 1 live" "$("$noria" ls | awk -v x="$x" '$1 == x { print $1, $2, $3, $4, $5, $6, $7, $10 }')"
is "age of a new channel" 0 "$("$noria" ls | awk -v x="$x" '$1 == x { print $12 !~ /^[0-9]+s$/ }')"
ends_with 1 "$noria" rm "$x"
says "in use"
for word in first second; do
    echo $word | "$noria" send "$x"
    has_come() { grep -q "$word" followed; }
    until_true has_come   # --follow goes on when a sender has left
done
ends_with 0 "$noria" rm --force "$x"
ends_with 1 "$noria" stat "$x"
kill -9 $reader
wait $reader 2>/dev/null

# --- doctor sees what the dead left, and mends it
fresh
"$noria" create "$x"
"$noria" recv "$x" --follow &
reader=$!
children+=("$reader")
until_true attached 1
is "doctor before a death" 0 "$("$noria" doctor | grep -c "$x ")"
kill -9 $reader
wait $reader 2>/dev/null
is "doctor after a death" 1 "$("$noria" doctor | grep -c "^ok .*$x: cleaned up after 1 dead participant")"
is "doctor a second time" 0 "$("$noria" doctor | grep -c "$x:")"
echo alive | "$noria" send "$x"
is "doctor after the next open" 0 "$("$noria" doctor | grep -c "$x ")"
is "deaths" 1 "$("$noria" stat "$x" | sed -n 's/^deaths *//p')"

# --- size, dump, fsck, gc
fresh
is "size tells the bytes" "$("$noria" size --capacity 100 --max-message 500)" \
    "$("$noria" create "$x" --capacity 100 --max-message 500; stat -c %s "/dev/shm/${x#shm:/}")"
ends_with 1 "$noria" size --kind spsc --capacity 0
ends_with 2 "$noria" size "$x"
printf 'one\ntwo\nthree\n' | "$noria" send "$x"
is "dump: full slots" 3 "$("$noria" dump "$x" | grep -c ' FULL ')"
is "dump: a field" 500 "$("$noria" dump "$x" | awk '$2 == "geometry" && $3 == "max_message" { print $5 }')"
ends_with 0 "$noria" fsck "$x"
cp "/dev/shm/${x#shm:/}" copy
is "dump of a copied file" 3 "$("$noria" dump ./copy | grep -c ' FULL ')"
ends_with 0 "$noria" fsck ./copy
ends_with 1 "$noria" fsck ./copy --repair
is "stat of a copied file" 3 "$("$noria" stat ./copy | sed -n 's/^messages *//p')"
is "stat of a copied file, as JSON" 1 "$("$noria" stat "$PWD/copy" --json | grep -c '"backend": *"copy"')"
is "who of a copied file" 1 "$("$noria" who ./copy | wc -l)"
ends_with 1 "$noria" stat ./lines
says 'something else than a noria segment'
ends_with 1 "$noria" who ./missing
"$noria" recv "$x" --follow >/dev/null &
reader=$!
children+=("$reader")
until_true attached 1
kill -9 $reader
wait $reader 2>/dev/null
cp "/dev/shm/${x#shm:/}" copy
is "who of a copied file tells the dead" 1 "$("$noria" who ./copy | grep -c ' receiver  dead ')"
ends_with 1 "$noria" fsck ./copy
says 'nothing is to be done about a copy'
ends_with 0 "$noria" fsck "$x" --repair
printf 'one\ntwo\nthree\n' | "$noria" send "$x"
cp "/dev/shm/${x#shm:/}" copy
slot=$((16#$("$noria" dump "$x" | awk '$2 == "slot" && $3 == 0 { print $1 }')))
printf '\377\377\377' | dd of=copy bs=1 seek=$slot conv=notrunc status=none # an owner who cannot be
ends_with 1 "$noria" fsck ./copy
says 'is corrupt'
truncate -s 5000 copy
ends_with 1 "$noria" fsck ./copy
ends_with 1 "$noria" dump ./copy
says 'is truncated'
ends_with 1 "$noria" dump ./lines
says 'something else than a noria segment'
ends_with 1 "$noria" dump "$name-0"
"$noria" recv "$x" --follow --count 100 >/dev/null &
reader=$!
children+=("$reader")
until_true attached 1
ends_with 0 "$noria" fsck "$x"
kill -9 $reader
wait $reader 2>/dev/null
ends_with 1 "$noria" fsck "$x"
says '1 participants died'
ends_with 0 "$noria" fsck "$x" --repair
is "fsck --repair" 1 "$(grep -c ' 0 dead, which hold 0, 1 cleaned up after' out)"
ends_with 0 "$noria" fsck "$x"
ends_with 0 "$noria" gc --dry-run
is "gc spares a channel that persists" 0 "$(grep -c "$x" out)"

# An existing channel is refused for what was asked, and for nothing else.
fresh
ends_with 0 "$noria" create "$x" --kind spsc
ends_with 0 "$noria" send "$x" --capacity 100000 --full fail --mode 0644
ends_with 0 "$noria" send "$x" --max-message 100
ends_with 0 "$noria" send "$x" --kind spsc
ends_with 1 "$noria" send "$x" --kind mpmc
says 'is of kind spsc, you ask for mpmc'
ends_with 1 "$noria" send "$x" --max-message 1000
says 'of up to 256 bytes, you ask for 1000'
for verb in create send recv; do
    ends_with 1 "$noria" $verb anon:
    says 'memory without a name'
done

# --- JSON is JSON, whatever the names
if command -v python3 >/dev/null && python3 -c 'import json' 2>/dev/null; then
    odd=$name-$(printf 'a"b\\c\td\303\244\377')
    "$noria" create "$odd" || bad "create of an odd name"
    "$noria" recv "$odd" --follow & children+=($!)
    x=$odd
    until_true attached 1
    for command in ls doctor size "gc --dry-run" "dump $odd" "fsck $odd" "stat $name-1x" "stat $odd" "who $odd"; do
        IFS=' ' read -r verb address <<<"$command"
        [ "$address" != "$name-1x" ] || "$noria" create "$address" --kind spsc
        "$noria" "$verb" ${address:+"$address"} --json >json || bad "$verb --json"
        checks=$((checks + 1))
        python3 -c 'import json, sys; json.load(sys.stdin)' <json || bad "$verb --json is no JSON: $(cat json)"
    done
    "$noria" create "$name-1y" --kind broadcast --evict 2s --capacity 16
    is "stat --json" "broadcast block 16 1 0 2000000000 0" "$("$noria" stat "$name-1y" --json | python3 -c 'import json, sys
c = json.load(sys.stdin)
print(*(c[key] for key in ("kind", "full", "capacity", "priorities", "max_bytes", "evict_ns", "lost")))')"
    is "ls --json" 1 "$("$noria" ls --json | python3 -c 'import json, sys
print(sum(1 for c in json.load(sys.stdin) if c["name"] == sys.argv[1] and c["kind"] == "spsc" and c["mode"] == "0600"))' "$name-1x")"
fi

echo "$checks checks"
exit $status

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: the command does the same at every address: what goes in comes out, byte for byte, through bridges, too.
# usage: adapters.sh NORIA
set -u
noria=$(realpath "$1") && [ -x "$noria" ] || exit 1
work=$(mktemp -d)
NORIA_DIR=$work/place
export NORIA_DIR
port=$((32000 + $$ % 350 * 2))
checks=0
status=0
addresses=("fifo:$work/fifo" "unix:$work/unix" "unix:$work/packets?seqpacket" "tcp::$port" "mq:/noria-tool-$$" "svmq:$((1000000 + $$))")

cleanup() {
    for address in "${addresses[@]}" "mq:/noria-tool2-$$" "shm:/noria-tool-$$" "svmq:$((2000000 + $$))"; do "$noria" rm --force "$address" 2>/dev/null; done
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1
bad() { printf 'FAILED: %s\n' "$*"; status=1; }
same() { checks=$((checks + 1)); cmp "$2" "$3" || bad "$1 does not come out as it went in"; }

seq 3000 >lines
printf 'last line open' >>lines
head -c 300000 /dev/urandom >binary

for address in "${addresses[@]}"; do
    # The receiver first; a queue takes pieces for one receiver only if both sides ask for messages that long.
    timeout 60 "$noria" recv "$address" --wait 20s >copy 2>err &
    reader=$!
    timeout 60 "$noria" send "$address" lines --max-message 4000 || bad "send $address"
    wait $reader || bad "recv $address: $(cat err)"
    same "$address" lines copy
    timeout 60 "$noria" recv "$address" --raw --wait 20s >copy 2>err &
    reader=$!
    timeout 60 "$noria" send "$address" binary --raw 4000 --max-message 4000 || bad "send --raw $address"
    wait $reader || bad "recv --raw $address: $(cat err)"
    same "pieces through $address" binary copy
    case $address in tcp:*) ;; *) # has no name
        checks=$((checks + 1))
        "$noria" stat "$address" | grep -q '^abilities  *many senders.* boundaries' || bad "stat $address"
        "$noria" stat "$address" | grep -q '^abilities .*at most once' || bad "what a death costs in stat $address"
        case $address in unix:*) expected=', descriptors' ;; *) expected= ;; esac
        [[ $("$noria" stat "$address" | sed -n 's/^abilities .*boundaries.*\(, descriptors\)$/\1/p') = "$expected" ]] || bad "descriptors in stat $address"
        "$noria" stat "$address" --json >/dev/null || bad "stat --json $address"
        "$noria" rm "$address" || bad "rm $address"
        ! "$noria" rm "$address" 2>/dev/null || bad "rm $address twice" ;;
    esac
done

# --- a sender that says what it wants looks first, and is no sender meanwhile: who waits for one does not see him leave
echo 'a line' >line
for address in "shm:/noria-tool-$$" "mq:/noria-tool2-$$" "svmq:$((2000000 + $$))"; do
    "$noria" create "$address" --max-message 4000 || bad "create $address"
    case $address in shm:*) word=redeliver ;; *) word='at most once' ;; esac
    "$noria" stat "$address" | grep -q "^abilities .*$word" || bad "what a death costs in stat $address"
    case $address in svmq:*) file=svmq- ;; *) file=noria-tool ;; esac
    for round in {1..30}; do
        "$noria" recv "$address" --timeout 60s >copy 2>err &
        reader=$!
        until ls -l /proc/$reader/fd 2>/dev/null | grep -q "$file" || ! kill -0 $reader 2>/dev/null; do sleep 0.01; done
        timeout 60 "$noria" send "$address" line --max-message 100 || bad "send $address to who waits"
        wait $reader || bad "recv $address, round $round: $(cat err)"
        same "what $address had somebody wait for, round $round," line copy
        [ $status = 0 ] || break
    done
    "$noria" rm "$address" || bad "rm $address"
done

# --- descriptors
timeout 60 "$noria" send fd:1 lines | timeout 60 "$noria" recv fd:0 >copy || bad "fd:1 to fd:0"
same "a pipe of the shell" lines copy
timeout 60 "$noria" send fd:1 binary --raw 50000 >file || bad "fd:1 into a file"
timeout 60 "$noria" recv fd:0 --raw <file >copy || bad "fd:0 from a file"
same "messages in a file" binary copy
checks=$((checks + 1))
timeout 60 "$noria" recv fd:0 </etc/passwd >copy 2>err && bad "a file that holds no messages"
grep -q "no message of noria's" err || bad "says: $(cat err)"

# --- bridges: a file through five mechanisms, one after the other
stops=("shm:/noria-tool-$$" "unix:$work/unix" "mq:/noria-tool2-$$" "tcp::$((port + 1))" "fifo:$work/fifo")
timeout 60 "$noria" recv "${stops[4]}" --wait 20s >copy 2>err &
reader=$!
bridges=()
for i in 3 2 1 0; do
    "$noria" create "${stops[$i]}" --max-message 4000 2>/dev/null
    timeout 60 "$noria" bridge "${stops[$i]}" "${stops[$((i + 1))]}" --max-message 4000 2>"bridge$i" &
    bridges+=($!)
    until grep -q 'at least once\|at most once' "bridge$i"; do
        kill -0 ${bridges[-1]} 2>/dev/null || { bad "bridge $i: $(cat "bridge$i")"; break; }
        sleep 0.01
    done
done
timeout 60 "$noria" send "${stops[0]}" lines || bad "send into the bridges"
for pid in "${bridges[@]}"; do wait "$pid" || bad "a bridge ended with $?: $(cat bridge?)"; done
wait $reader || bad "recv behind the bridges: $(cat err)"
same "a file through four bridges" lines copy
for i in 0 1 2 3; do
    checks=$((checks + 1))
    grep -q ' 3001 messages' "bridge$i" || bad "bridge $i counts: $(cat "bridge$i")"
done
grep -q 'at least once' bridge0 || bad "a ring can redeliver: $(cat bridge0)"
grep -q 'at most once' bridge1 || bad "a socket cannot redeliver: $(cat bridge1)"

# --- refusals say why
refuses() { # words, command...
    local words=$1
    shift
    checks=$((checks + 1))
    timeout 60 "$noria" "$@" >out 2>err </dev/null && bad "noria $* succeeds"
    [ "$(wc -l <err)" = 1 ] || bad "noria $*: $(wc -l <err) lines: $(cat err)"
    grep -q -- "$words" err || bad "noria $* says: $(cat err)"
}
refuses 'is there and is not a FIFO' recv "fifo:$work/lines"
refuses 'tcp:host:port' recv tcp:nonsense
refuses 'one slash' send mq:nonsense
refuses 'no such name' recv "fifo:$work/none" --wait 0
refuses 'goes with this command' send pipe:
refuses 'no such descriptor' recv fd:77

echo "$checks checks"
exit $status

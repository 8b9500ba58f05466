#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: each mechanism by hand brings over what was sent, and what is said of it when a process dies is so.
# usage: by_hand.sh PROGRAM...
set -u
bin=$(dirname "$(realpath "$1")")
work=$(mktemp -d)
name=by-hand-$$
port=$((30000 + $$ % 1000))
status=0
checks=0
cd "$work" || exit 1
key=$(printf '0x6e%02x%04x' $((0x$(stat -c %D "$work") & 0xff)) $(($(stat -c %i "$work") & 0xffff))) # as ftok does
cleanup() {
    ipcrm -Q "$key" -M "$key" -S "$key" 2>/dev/null
    rm -rf "$work" "/dev/shm/$name"
}
trap cleanup EXIT
bad() { printf 'FAILED: %s\n' "$*"; status=1; }
run() { timeout -s KILL 100 "$bin/$@"; }
said() { # what, expected
    checks=$((checks + 1))
    [ "$(cat got)" = "$2" ] || bad "$1: '$(cat got)', not '$2'"
}
fails() { # what, words it says, program...
    local what=$1 words=$2
    shift 2
    checks=$((checks + 1))
    if run "$@" >got 2>err; then bad "$what: does not fail"; fi
    grep -q "$words" err || bad "$what: says '$(cat err)', not '$words'"
}
until_so() { # what is to become true; asked again and again
    local tries=0
    until eval "$1"; do
        tries=$((tries + 1))
        [ $tries -lt 2000 ] || { bad "never so: $1"; return 1; }
        sleep 0.02
    done
}
passes() { # what, program, where
    run "$2" recv "$3" >got &
    run "$2" send "$3" 1000 || bad "$1: send"
    wait $! || bad "$1: recv"
    said "$1" '1000 numbers, sum 499500'
}

# --- each as it should be
run pipe 1000 >got || bad pipe
said pipe '1000 numbers, sum 499500'
passes fifo fifo "$work/fifo"
passes 'Unix socket' unix_socket "$work/socket"
passes TCP tcp "$port"
passes 'POSIX shared memory' posix_shm "/$name"
[ ! -e "/dev/shm/$name" ] || bad "the shared memory is left"
passes 'System V shared memory' sysv_shm "$work"
passes 'mapped file' mapped_file "$work/file"

# --- POSIX queue: priorities overtake; the receiver that comes first is told by signal
run posix_mq send "/$name" 9 || bad "posix_mq send"
run posix_mq recv "/$name" >got || bad "posix_mq recv"
said 'POSIX queue' '9 numbers, sum 36, 6 of them overtaken'
run posix_mq recv "/$name" >got &
run posix_mq send "/$name" 1000 || bad "posix_mq send"
wait $! || bad "posix_mq recv"
sed -i 's/,[^,]*$//' got
said 'POSIX queue, told by signal' '1000 numbers, sum 499500'

# --- System V queue: to each his own; who removes it under a receiver is noticed
run sysv_mq recv "$work" 1 >even &
even=$!
run sysv_mq recv "$work" 2 >got &
odd=$!
run sysv_mq send "$work" 1000 || bad "sysv_mq send"
wait $even || bad "sysv_mq recv 1"
wait $odd || bad "sysv_mq recv 2"
said 'System V queue, type 2' '500 numbers, sum 250000'
cp even got
said 'System V queue, type 1' '500 numbers, sum 249500'
ipcs -q | grep -q "^$key" || bad "the queue does not stay"
run sysv_mq recv "$work" 1 2>err &
reader=$!
until_so '! kill -0 $reader 2>/dev/null || { ipcrm -Q "$key" 2>/dev/null; false; }' # whenever it came to it
wait $reader && bad "a receiver outlives its queue"
grep -q 'removed' err || bad "a receiver whose queue was removed says $(cat err)"

# --- signals
run signals recv >pid &
reader=$!
until_so '[ -s pid ]'
run signals send "$(cat pid)" 1000 || bad "signals send"
wait $reader || bad "signals recv"
sed 1d pid >got
said signals '1000 numbers, sum 499500'
fails 'signals to nobody' 'No such process' signals send "$(head -n 1 pid)" 1

# --- somebody dies
"$bin/pipe" 1000000000000 2>err &
reader=$!
until_so '[ "$(sed -n "s/^rchar: //p" /proc/$reader/io)" -gt 100000 ]'
kill -KILL $reader
until_so 'grep -q "Broken pipe" err'
mkfifo half
head -c 20 /dev/zero >half &
fails 'half a number in a FIFO' 'in the middle' fifo recv half
head -c 8 half >/dev/null &
fails 'a FIFO whose reader goes' 'Broken pipe' fifo send half 1000000000000
{ fails 'half a number over TCP' 'in the middle' tcp recv "$port"; exit $status; } &
until_so '{ head -c 20 /dev/zero >"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null'
wait $! || status=1

for kind in unix_socket:$work/socket tcp:$port; do
    "$bin/${kind%%:*}" recv "${kind#*:}" >/dev/null &
    reader=$!
    "$bin/${kind%%:*}" send "${kind#*:}" 1000000000000 2>err &
    sender=$!
    # A socket more than the listening one: it has accepted.
    until_so '[ "$(find /proc/'$reader'/fd -lname "socket:*" | wc -l)" = 2 ]'
    kill -KILL $reader
    wait $sender && bad "${kind%%:*}: a sender outlives its receiver"
    grep -q 'Broken pipe\|reset' err || bad "${kind%%:*} says $(cat err)"
    checks=$((checks + 1))
done
passes 'Unix socket over the name of a dead one' unix_socket "$work/socket"

run posix_shm die "/$name" 2>/dev/null && bad "posix_shm die lives"
run posix_shm recv "/$name" >got 2>err &
run posix_shm send "/$name" 1000 2>>err2 || bad "posix_shm send"
wait $! || bad "posix_shm recv"
said 'a mutex whose owner died' '1000 numbers, sum 499500'
cat err err2 | grep -q 'owner of the mutex died' || bad "nobody saw that its owner died"
run sysv_shm die "$work" 2>/dev/null && bad "sysv_shm die lives"
passes 'a semaphore whose owner died' sysv_shm "$work"

run mapped_file send file 10 || bad "mapped_file send"
run mapped_file recv file >got || bad "mapped_file recv"
said 'a file that outlives its sender' '10 numbers, sum 45'
"$bin/mapped_file" send file 1000000000000 &
sender=$!
run mapped_file recv file >got &
reader=$!
until_so '[ -s file ]'
kill -KILL $sender
wait $sender 2>/dev/null
run mapped_file send file 1000 || bad "a successor sends"
wait $reader || bad "mapped_file recv goes on"
read -r count _ _ sum <got
# The dead one's numbers were 0, 1, 2, … without a gap.
[ "$((sum - 499500))" = "$(((count - 1000) * (count - 1001) / 2))" ] || bad "a successor after a kill: $(cat got)"
echo "$checks checks"
exit $status

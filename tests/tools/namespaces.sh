#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Claim: `noria doctor` recognises what containers and logins do to channels and names the cure: a small /dev/shm, ipc, pid
# and user namespaces apart, RemoveIPC. A user without rights is told so.
# usage: namespaces.sh NORIA
set -u
noria=$(realpath "$1") && [ -x "$noria" ] || exit 1
[ "$(id -u)" = 0 ] && unshare -m -i true 2>/dev/null || { echo "needs root, and namespaces"; exit 77; }
if [ -z "${NORIA_OWN_SHM:-}" ]; then
    NORIA_OWN_SHM=1 exec unshare -m -i --propagation private "$0" "$@"
fi
mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm || exit 1
work=$(mktemp -d) && chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
# For users who may not look into the place where this was built.
libraries=$(ldd "$noria" | sed -nE 's/.*=> (.*libnoria[^ ]*) .*/\1/p')
cp "$noria" $libraries "$work" && chmod 755 "$work"/*
noria=$work/noria
export LD_LIBRARY_PATH=$work
cd "$work" || exit 1
checks=0
status=0
shows() { # text, command...: a line of its output, cure included
    checks=$((checks + 1))
    "${@:2}" >out 2>err </dev/null
    tr '\n' ' ' <out | grep -q -e "$1" || { echo "FAILED: no '$1' in: $(cat out err)"; status=1; }
}
fails_with() { # text, command...: exit status 1 and that on stderr
    checks=$((checks + 1))
    "${@:2}" >out 2>err </dev/null
    [ $? = 1 ] && grep -q -e "$1" err || { echo "FAILED: ${*:2} without '$1': $(cat out err)"; status=1; }
}
succeeds() { # command...
    checks=$((checks + 1))
    "$@" >out 2>err </dev/null || { echo "FAILED: $*: $(cat out err)"; status=1; }
}
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups env LD_LIBRARY_PATH="$LD_LIBRARY_PATH" "$@"; }
until_true() {
    for _ in $(seq 1000); do "$@" && return 0; sleep 0.01; done
    echo "FAILED: never came true: $*"
    status=1
}

# --- a small /dev/shm, as docker gives it
shows 'warn  size .*MiB free of 64 MiB.*Cure: .*--shm-size' "$noria" doctor
fails_with 'needs .* bytes, .* free.*--shm-size' "$noria" create shm:/large --capacity 256K
[ ! -e /dev/shm/large ] || { echo "FAILED: a channel that cannot be had leaves its name"; status=1; }
mount -o remount,size=1g /dev/shm
shows 'ok    size .*MiB free of 1024 MiB' "$noria" doctor
succeeds "$noria" create shm:/large --capacity 256K
succeeds "$noria" rm shm:/large

# --- a /dev/shm that is read-only, and none at all: each is told with its cure, and gone with it
mount -o remount,ro /dev/shm
shows 'fail  writable .*Cure: .*read-only' "$noria" doctor
fails_with 'read-only.*shm:/x.*remount' "$noria" create shm:/x
mount -o remount,rw /dev/shm
shows 'ok    writable ' "$noria" doctor
without_shm() { unshare -m --propagation private sh -c 'mount -t tmpfs tmpfs /dev && exec "$@"' sh "$@"; }
shows 'fail  shared memory .*Cure: Mount it: mount -t tmpfs .*/dev/shm' without_shm "$noria" doctor
fails_with 'no /dev/shm.*mount -t tmpfs' without_shm "$noria" create shm:/x
succeeds without_shm sh -c 'mkdir -m 1777 /dev/shm; mount -t tmpfs -o mode=1777 tmpfs /dev/shm; exec "$1" create shm:/x' sh "$noria"

# --- another pid namespace: the living are not taken for dead, and doctor says what does not work across
"$noria" create shm:/x
unshare -p --fork --kill-child --mount-proc "$noria" recv shm:/x --follow >received &
container=$!
attached() { [ "$("$noria" who shm:/x | grep -c 'another pid namespace')" = 1 ]; }
until_true attached
shows 'warn  namespaces .*shm:/x: 1 participant is in another pid namespace.*Cure: .*--pid=host' "$noria" doctor
shows 'pid namespace is a container' unshare -p --fork --mount-proc "$noria" doctor
echo through | "$noria" send shm:/x
until_true grep -q through received
shows ' receiver  yes ' "$noria" who shm:/x
kill -9 $container
wait $container 2>/dev/null
all_dead() { [ "$("$noria" who shm:/x | grep -c ' yes ')" = 0 ]; }
until_true all_dead
shows 'ok    leftover .*shm:/x: cleaned up after 1 dead' "$noria" doctor

# --- an eventfd cannot be had from another pid namespace: told, with the cure; inside one it works
"$noria" create shm:/e --wait eventfd
unshare -p --fork --kill-child --mount-proc "$noria" recv shm:/e --follow >received &
container=$!
attached_to_e() { [ "$("$noria" who shm:/e | grep -c 'another pid namespace')" = 1 ]; }
until_true attached_to_e
echo refused >lines
fails_with 'same user and pid namespace.*wait = fifo' "$noria" send shm:/e lines
kill -9 $container
wait $container 2>/dev/null
nobody_has_e() { [ "$("$noria" who shm:/e | grep -c ' yes ')" = 0 ]; }
until_true nobody_has_e
echo inside >lines
succeeds unshare -p --fork --kill-child --mount-proc sh -c '"$1" recv shm:/e --count 1 >received & "$1" send shm:/e lines && wait' sh "$noria"
shows '^inside' cat received
"$noria" rm shm:/e

# --- another ipc namespace and /dev/shm: channels are not seen, and are again where these are shared
shows 'warn  ipc namespace .*container.*Cure: .*--ipc=host' unshare -i "$noria" doctor
if [ "$(readlink /proc/1/ns/ipc)" = 'ipc:[4026531839]' ]; then
    shows 'ok    ipc namespace ' nsenter -i -t 1 "$noria" doctor
fi
"$noria" create sysv:0x6e731234
shows 'sysv:0x6e731234 ' "$noria" ls
fails_with 'no channel' unshare -i "$noria" stat sysv:0x6e731234
shows 'sysv:0x6e731234' nsenter -i -t $$ "$noria" stat sysv:0x6e731234
"$noria" rm sysv:0x6e731234
mkdir shm && mount --bind /dev/shm shm
apart() { unshare -m --propagation private sh -c 'mount -t tmpfs -o size=1m tmpfs /dev/shm; '"$1; exec \"\$@\"" sh "${@:2}"; }
fails_with 'no channel' apart : "$noria" stat shm:/x
shows 'shm:/x' apart "mount --bind $work/shm /dev/shm" "$noria" stat shm:/x
shows 'shm:/x' nsenter -m -t $$ "$noria" stat shm:/x
umount shm

# --- a user namespace
if unshare -U true 2>/dev/null; then
    shows 'warn  user namespace .* 1 user:.*Cure: .*--userns=host' setpriv --reuid 65534 --clear-groups \
        env LD_LIBRARY_PATH="$LD_LIBRARY_PATH" unshare -U -r "$noria" doctor
fi
shows 'ok    user namespace ' "$noria" doctor

# --- the recipe that doctor names: a mode that lets others in, and --foreign for whoever sees a stranger's channel
apart_user=(setpriv --reuid 65533 --regid 65533 --clear-groups env "LD_LIBRARY_PATH=$LD_LIBRARY_PATH" unshare -U -r)
nobody_follows() { [ "$("$noria" who "$1" | grep -c ' receiver .* yes ')" = 0 ]; }
somebody_follows() { ! nobody_follows "$1"; }
if "${apart_user[@]}" true 2>/dev/null; then
    echo inside >inside && echo outside >outside
    for address in shm:/shared sysv:0x6e731235 "file:$work/shared"; do
        "$noria" create "$address" --mode 0666
        fails_with 'user namespace.*--foreign' "${apart_user[@]}" "$noria" send "$address" inside
        checks=$((checks + 1))
        "${apart_user[@]}" "$noria" send "$address" --foreign inside || status=1
        shows '^inside' "$noria" recv "$address" --count 1
        checks=$((checks + 1))
        "$noria" send "$address" outside || status=1
        shows '^outside' "${apart_user[@]}" "$noria" recv "$address" --foreign --count 1
        # Who lives and who is dead is seen across, too.
        "${apart_user[@]}" "$noria" recv "$address" --foreign --follow >followed &
        follower=$!
        until_true somebody_follows "$address"
        "$noria" send "$address" outside
        until_true grep -q outside followed
        kill -9 $follower
        wait $follower 2>/dev/null
        until_true nobody_follows "$address"
        checks=$((checks + 1))
        "$noria" rm "$address" || status=1
    done
    # The other way round: made inside, used outside.
    "${apart_user[@]}" "$noria" create shm:/shared --mode 0666
    fails_with 'belongs to user 65533.*--foreign' "$noria" send shm:/shared outside
    checks=$((checks + 1))
    "$noria" send shm:/shared --foreign outside || status=1
    shows '^outside' "${apart_user[@]}" "$noria" recv shm:/shared --count 1
    "$noria" rm shm:/shared
fi

# --- a user without rights
"$noria" create shm:/noria-private
for verb in stat who dump fsck; do
    case $verb in
        stat) shows 'no-access' as_nobody "$noria" stat shm:/noria-private ;;
        *) fails_with 'ermission\|may not' as_nobody "$noria" $verb shm:/noria-private ;;
    esac
done
shows 'shm:/noria-private .* no-access' as_nobody "$noria" ls
shows 'no access .*shm:/noria-private is of user 0 and mode 0600' as_nobody "$noria" doctor
succeeds as_nobody "$noria" gc
shows 'shm:/noria-private stays: ' as_nobody "$noria" gc
fails_with 'ermission' as_nobody "$noria" rm shm:/noria-private

# --- systemd's RemoveIPC
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system
mkdir -p "$work/etc/systemd" && mount --bind "$work/etc" /etc && mkdir -p /etc/systemd
shows 'warn  logout .*Cure: .*RemoveIPC=no' as_nobody "$noria" doctor
echo 'RemoveIPC=no' >/etc/systemd/logind.conf
shows 'ok    logout ' as_nobody "$noria" doctor
# Of the additions the last name counts, of one name what stands in /etc.
mkdir -p /run/systemd/logind.conf.d /etc/systemd/logind.conf.d
echo 'RemoveIPC=yes' >/run/systemd/logind.conf.d/50-remove.conf
shows 'warn  logout ' as_nobody "$noria" doctor
echo 'RemoveIPC=no' >/etc/systemd/logind.conf.d/10-keep.conf
shows 'warn  logout ' as_nobody "$noria" doctor
: >/etc/systemd/logind.conf.d/50-remove.conf
shows 'ok    logout ' as_nobody "$noria" doctor
rm /etc/systemd/logind.conf /etc/systemd/logind.conf.d/*
echo 'RemoveIPC=no' >/run/systemd/logind.conf
shows 'warn  logout ' as_nobody "$noria" doctor
rm /run/systemd/logind.conf.d/*
shows 'ok    logout ' as_nobody "$noria" doctor

echo "$checks checks"
exit $status

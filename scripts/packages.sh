# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash disable=SC2034,SC2086
# Sourced by ./run: finds out what the machine lacks for a verb and installs it with the machine's package manager.

# thing; the packages that bring it with apt; dnf; pacman; apk; zypper. A * marks one that has to be built
# from source or taken from a user repository there. Only the apt column is exercised by our own tests.
package_table='
cc;         gcc libc6-dev;          gcc glibc-devel;              gcc;               gcc musl-dev linux-headers; gcc glibc-devel
meson;      meson;                  meson;                        meson;             meson;                      meson
ninja;      ninja-build;            ninja-build;                  ninja;             samurai;                    ninja
pkg-config; pkg-config;             pkgconf-pkg-config;           pkgconf;           pkgconf;                    pkgconf-pkg-config
cmocka;     libcmocka-dev;          libcmocka-devel;              cmocka;            cmocka-dev;                 libcmocka-devel
liburcu;    liburcu-dev;            userspace-rcu-devel;          liburcu;           userspace-rcu-dev;          liburcu-devel
ck;         libck-dev;              ck-devel;                     concurrencykit*;   concurrencykit*;            concurrencykit*
g++;        g++;                    gcc-c++;                      gcc;               g++;                        gcc-c++
sanitizers; gcc;                    libasan libubsan libtsan;     gcc;               compiler-rt;                libasan8 libubsan1 libtsan2
clang;      clang libclang-rt-dev;  clang compiler-rt;            clang compiler-rt; clang compiler-rt;          clang
spin;       spin;                   spin*;                        spin*;             spin*;                      spin*
gcovr;      gcovr;                  gcovr;                        gcovr*;            gcovr;                      gcovr
dpdk;       libdpdk-dev;            dpdk-devel;                   dpdk;              dpdk-dev;                   dpdk-devel
m32;        gcc-multilib;           glibc-devel.i686 libgcc.i686; lib32-gcc-libs;    m32*;                       gcc-32bit glibc-devel-32bit
run32;      qemu-user;              qemu-user;                    qemu-user;         qemu-i386;                  qemu-linux-user
nats;       libnats-dev;            cnats-devel*;                 cnats*;            nats.c-dev*;                cnats-devel*
nats-server; nats-server;           nats-server*;                 nats-server;       nats-server;                nats-server*
openssl;    openssl;                openssl;                      openssl;           openssl;                    openssl'
package_managers=(apt-get dnf pacman apk zypper)

needed_to_build='cc meson ninja pkg-config cmocka liburcu ck'
wanted_to_test='g++ sanitizers clang spin gcovr dpdk m32 run32 nats nats-server openssl'
wanted_to_fuzz='clang'

compiles() { # compiler and its options; the program comes on stdin
    local out status
    out=$(mktemp)
    "$@" -o "$out" - 2>/dev/null
    status=$?
    rm -f "$out"
    return $status
}

runs_32() {
    local program status
    program=$(mktemp)
    ${CC:-cc} -m32 -x c -o "$program" - <<<'int main(void) { return 0; }' 2>/dev/null && "$program"
    status=$?
    rm -f "$program"
    return $status
}

is_there() { # thing
    case $1 in
        cc) compiles ${CC:-cc} -x c <<<$'#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }' ;;
        g++) compiles g++ -x c++ <<<$'#include <cstdlib>\nint main() { return EXIT_SUCCESS; }' ;;
        sanitizers) compiles ${CC:-cc} -fsanitize=address,undefined -x c <<<'int main(void) { return 0; }' ;;
        clang) compiles clang -fsanitize=fuzzer,address -x c \
            <<<'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n ? 0 : 0; }' ;;
        m32) [ "$(uname -m)" != x86_64 ] || compiles ${CC:-cc} -m32 -x c \
            <<<$'#include <stdio.h>\nint main(void) { return puts("32") < 0; }' ;;
        run32) [ "$(uname -m)" != x86_64 ] || command -v qemu-i386 || runs_32 ;; # a kernel may run 64-bit programs only
        ninja) command -v ninja || command -v ninja-build || command -v samu ;;
        pkg-config) command -v pkg-config ;;
        cmocka) pkg-config --exists cmocka ;;
        liburcu) pkg-config --exists liburcu-bp ;;
        ck) pkg-config --exists ck ;;
        dpdk) pkg-config --exists libdpdk ;;
        nats) pkg-config --exists libnats ;;
        nats-server) command -v nats-server || [ -x /usr/sbin/nats-server ] ;;
        deb:*) [ "$(dpkg-query -W -f '${db:Status-Status}' "${1#deb:}" 2>/dev/null)" = installed ] ;;
        *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

missing_of() { # things...
    local thing
    for thing; do is_there "$thing" || echo "$thing"; done
}

packages_for() { # package manager, things...
    local manager=$1 thing name column=2
    shift
    for name in "${package_managers[@]}"; do
        [ "$name" != "$manager" ] || break
        column=$((column + 1))
    done
    for thing; do
        case $thing in
            deb:*) [ "$manager" != apt-get ] || echo "${thing#deb:}" ;;
            *) grep "^$thing;" <<<"$package_table" | cut -d';' -f$column | tr -s ' ' '\n' ;;
        esac
    done | grep . | sort -u | tr '\n' ' '
}

install_packages() { # package manager, packages...
    local manager=$1 root=()
    shift
    [ "$(id -u)" = 0 ] || root=(sudo)
    case $manager in
        apt-get) "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" ;;
        dnf) "${root[@]}" dnf install -y "$@" ;;
        pacman) "${root[@]}" pacman -S --needed --noconfirm "$@" ;;
        apk) "${root[@]}" apk add "$@" ;;
        zypper) "${root[@]}" zypper --non-interactive install "$@" ;;
    esac
}

refresh_lists() { # package manager
    local root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    case $1 in
        apt-get) "${root[@]}" apt-get update -q ;;
        pacman) "${root[@]}" pacman -Sy ;;
        apk) "${root[@]}" apk update ;;
    esac
}

may_install() { # package manager, packages...
    local manager=$1 answer
    shift
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; } || return 1
    if [ -t 0 ] && [ -t 2 ]; then
        read -r -p "noria needs: $*. Install with $manager now? [Y/n] " answer
        case $answer in '' | [yY]*) return 0 ;; *) return 1 ;; esac
    fi
    [ "$(id -u)" = 0 ] || [ -n "${CI:-}" ]
}

say_what_to_install() { # things...
    local manager
    echo "Please install what is missing ($*) and run the command again. The packages:" >&2
    for manager in "${package_managers[@]}"; do
        printf '  %-8s %s\n' "${manager%-get}" "$(packages_for "$manager" "$@")" >&2
    done
    echo "  (* not packaged there: Concurrency Kit from https://concurrencykit.org, Spin from https://spinroot.com," >&2
    echo "     gcovr with pip, NATS from https://nats.io)" >&2
}

# Installs what is missing of both lists. Without the needed things it cannot go on; the wanted ones only
# leave something out, which is said.
provide() { # needed things, wanted things
    local missing manager packages package log
    missing=$(missing_of $1 $2)
    [ -n "$missing" ] || return 0
    for manager in "${package_managers[@]}" ''; do
        [ -z "$manager" ] || ! command -v "$manager" >/dev/null || break
    done
    packages=$(packages_for "${manager:-apt-get}" $missing | tr -d '*')
    if [ -n "$manager" ] && may_install "$manager" $packages; then
        echo "Installing with $manager: $packages"
        log=$(mktemp)
        # One package that this release does not have must not keep the others away.
        { refresh_lists "$manager"; install_packages "$manager" $packages ||
            for package in $packages; do install_packages "$manager" "$package"; done; } </dev/null >"$log" 2>&1
        installed_something=1
        [ -z "$(missing_of $1)" ] || tail -n 20 "$log" >&2
        rm -f "$log"
    fi
    missing=$(missing_of $1)
    [ -z "$missing" ] || { say_what_to_install $missing; exit 1; }
    missing=$(missing_of $2)
    [ -z "$missing" ] || echo "Not there, so what needs it is left out:" ${missing//deb:/}
}

# shellcheck shell=bash
# Shared by deploy/try and tests/run: what they say, install and start. Sourced, never run.

# Daemons live here, and are not in everybody's path.
PATH="$PATH:/usr/sbin:/sbin"

# What runs, runs in this directory; whoever sources this file makes it.
scratch=''
repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
warn() { printf 'WARNING: %s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2
    exit 1
}
# have NAME: there is such a command; perl=FILE: perl finds this module.
have() {
    case $1 in
    perl=*) perl -e "require '${1#perl=}'" >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# section TITLE: says what begins, and how long the one before took.
section_started=$SECONDS
section_open=
section() {
    section_end
    section_open=yes
    section_started=$SECONDS
    printf '\n== %s\n' "$1"
}
section_end() {
    if [[ -n $section_open ]]; then
        printf -- '-- %d s\n' $((SECONDS - section_started))
    fi
    section_open=
}

# install_missing COMMAND:PACKAGE…: installs the packages whose commands are missing, or says what to install and ends.
install_missing() {
    local pair packages=()
    for pair in "$@"; do
        have "${pair%%:*}" || packages+=("${pair##*:}")
    done
    ((${#packages[@]})) || return 0
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)

    local root=()
    if ((EUID != 0)); then
        root=(sudo -n)
        if ! have sudo || ! sudo -n true 2>/dev/null; then
            die "please install what is missing and start again: sudo apt-get install --no-install-recommends ${packages[*]}"
        fi
    fi
    have apt-get || die "please install what is missing and start again (names of Debian packages): ${packages[*]}"
    say "Installing ${packages[*]} ..."
    apt_install "${packages[@]}" || {
        say "Trying again with a new list of packages ..."
        "${root[@]}" apt-get -qq update || warn "apt-get update failed"
        apt_install "${packages[@]}" || die "could not install: ${packages[*]}"
    }
    for pair in "$@"; do
        have "${pair%%:*}" || die "${pair##*:} is installed, but there is no ${pair%%:*}"
    done
}

# Packages of daemons start them at once: a Postfix would take port 25, a clamd 1.3 GB of memory. While policy-rc.d says 101
# nothing is started; one that is there already is left alone. --no-remove: an installed mail server is not replaced.
apt_install() {
    # shellcheck disable=SC2016
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c '
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            trap "rm -f $policy" EXIT
            printf "#!/bin/sh\nexit 101\n" >"$policy" && chmod 755 "$policy"
        fi
        apt-get -qq -y --no-remove --no-install-recommends -o Dpkg::Use-Pty=0 install "$@" >/dev/null
    ' apt_install "$@"
}

require_cargo() {
    have cargo || PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    have cargo || die "there is no cargo: install Rust from https://rustup.rs and start again"
}

# require_component NAME…: fmt, clippy
require_component() {
    local name
    for name in "$@"; do
        cargo "$name" --version >/dev/null 2>&1 || die "there is no cargo $name: rustup component add rustfmt clippy"
    done
}

# Where cargo builds: honours CARGO_TARGET_DIR and cargo's own settings.
target_directory() {
    cargo metadata --format-version 1 --no-deps --manifest-path "$repository/Cargo.toml" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])'
}

# free_ports COUNT: TCP ports on 127.0.0.1 that nobody uses now.
free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*[socket.getsockname()[1] for socket in sockets])
PYTHON
}

# wait_for SECONDS COMMAND…: until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

# start NAME COMMAND…: in the background, with its output in $scratch/NAME.log and its process id in $scratch/NAME.pid.
# A session of its own, so that neither Ctrl-C nor the end of the terminal reaches it: stop does.
start() {
    local name=$1
    shift
    setsid "$@" >"$scratch/$name.log" 2>&1 </dev/null &
    printf '%d\n' $! >"$scratch/$name.pid"
    disown
}

# is_running NAME: and is still the process that was started, not another one with its number.
is_running() {
    local process
    [[ -n $scratch ]] || return 1
    process=$(cat "$scratch/$1.pid" 2>/dev/null) || return 1
    grep -qsaF -- "$scratch" "/proc/$process/cmdline"
}

# stop NAME: politely, then by force.
stop() {
    is_running "$1" || return 0
    local process
    process=$(cat "$scratch/$1.pid")
    kill "$process" 2>/dev/null || return 0
    wait_for 10 is_stopped "$1" || kill -KILL "$process" 2>/dev/null || true
}
is_stopped() { ! is_running "$1"; }

# start_clamd DATABASE SECONDS: a private clamd on $scratch/clamd.sock, with the signatures in the directory DATABASE. Waits
# until it answers PING; false when it does not.
start_clamd() {
    fill_in "$repository/tests/clamav/clamd.conf.in" "$1" >"$scratch/clamd.conf"
    private_copy clamd
    start clamd "$scratch/clamd" --config-file="$scratch/clamd.conf"
    wait_for "$2" clamd_answers_or_ended
    clamd_answers
}

fill_in() {
    sed -e "s|@DIRECTORY@|$scratch|g" -e "s|@DATABASE@|$2|g" -e "s|@USER@|$(id -un)|g" "$1"
}

# AppArmor's profiles of clamd and freshclam go by their paths and keep them out of a scratch directory.
private_copy() { cp -- "$(command -v "$1")" "$scratch/$1"; }

clamd_answers_or_ended() { clamd_answers || ! is_running clamd; }

clamd_answers() {
    python3 - "$scratch/clamd.sock" <<'PYTHON'
import socket, sys

try:
    with socket.socket(socket.AF_UNIX) as clamd:
        clamd.settimeout(5)
        clamd.connect(sys.argv[1])
        clamd.sendall(b"zPING\0")
        answer = clamd.recv(16)
except OSError:
    answer = b""
sys.exit(0 if answer == b"PONG\0" else 1)
PYTHON
}

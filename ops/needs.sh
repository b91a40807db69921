# What the commands in ops/ share: being root, and having what they need. Sourced, never run.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 2; }

# Containers are made by root: re-run under sudo where we are not.
be_root() {
    [ "$(id -u)" -eq 0 ] && return 0
    command -v sudo >/dev/null || fail "this needs root, and there is no sudo: run it as root"
    exec sudo --preserve-env=REGATTA_DATA,REGATTA_BLESS,CI,http_proxy,https_proxy,no_proxy "$0" "$@"
}

# need_packages PACKAGE...: installs those of Debian's or Ubuntu's packages that are missing.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    command -v apt-get >/dev/null || fail "needs ${missing[*]}: install them with this system's package manager"
    say "installing ${missing[*]}"
    apt-get update -qq >&2 || fail "apt-get update failed: is the network there?"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        fail "cannot install ${missing[*]}; try: apt-get install ${missing[*]}"
}

# Rust: the toolchain on PATH, that of whoever called sudo, or Debian's rustup.
need_rust() {
    if ! command -v cargo >/dev/null && [ -n "${SUDO_USER:-}" ]; then
        local home
        home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
        if [ -x "$home/.cargo/bin/cargo" ]; then
            export PATH="$home/.cargo/bin:$PATH" CARGO_HOME="$home/.cargo" RUSTUP_HOME="$home/.rustup"
        fi
    fi
    if ! command -v cargo >/dev/null; then
        if apt-cache show rustup >/dev/null 2>&1; then
            need_packages rustup
            rustup default stable >&2 || fail "rustup cannot install a toolchain"
        else
            fail "needs Rust 1.95 or newer, and this system's packages have no rustup: see https://rustup.rs"
        fi
    fi
    need_packages gcc libc6-dev
}

# PostgreSQL of one's own, from the installed programs; they refuse to run as root.
need_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || need_packages postgresql; }
postgres_program() { compgen -G "/usr/lib/postgresql/*/bin/$1" | sort --version-sort | tail -n 1; }
as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups --pdeathsig=KILL -- env --ignore-environment LC_ALL=C.UTF-8 "$@"; }
make_postgres() { # DIRECTORY
    install --directory --owner=postgres --mode=0700 "$1"
    chmod go+x "$(dirname "$1")"
    as_postgres "$(postgres_program initdb)" --pgdata "$1" --username=regatta --auth=trust --encoding=UTF8 >/dev/null
}
run_postgres() { # DIRECTORY PORT [SETTING...]; in the foreground
    local directory=$1 port=$2 setting settings=()
    shift 2
    for setting in "$@"; do settings+=(-c "$setting"); done
    exec setpriv --reuid=postgres --regid=postgres --clear-groups -- env --ignore-environment LC_ALL=C.UTF-8 \
        "$(postgres_program postgres)" -D "$directory" -c listen_addresses=127.0.0.1 -c "port=$port" \
        -c "unix_socket_directories=$directory" "${settings[@]}"
}
psql_of() { # PORT STATEMENT
    as_postgres "$(postgres_program psql)" --no-psqlrc --tuples-only --no-align --quiet --host=127.0.0.1 --port="$1" \
        --username=regatta --dbname=postgres --command "$2"
}
await_postgres() { # PORT
    for _ in $(seq 300); do psql_of "$1" 'SELECT 1' >/dev/null 2>&1 && return; sleep 0.1; done
    fail "PostgreSQL does not answer at port $1"
}

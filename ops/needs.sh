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

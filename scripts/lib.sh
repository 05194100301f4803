# shellcheck shell=bash
# What the scripts share. Sourced, not run.
#
# As root, missing packages are installed. As anybody else nothing is changed: what is missing is named, together with the one
# command an administrator can mend it with.

# The packages without which mica cannot be compiled.
BUILD_PACKAGES=(gcc libc6-dev make pkg-config ca-certificates)
# What mica uses while it builds images for an ordinary user: id ranges and a network.
ROOTLESS_PACKAGES=(uidmap passt slirp4netns)
# The oldest Rust that compiles mica, as in Cargo.toml.
RUST_MINOR=90

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
is_root() { [ "$(id -u)" -eq 0 ]; }

is_installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# Prints those of the given packages that are not installed.
missing() {
    local package
    for package in "$@"; do
        is_installed "$package" || printf '%s\n' "$package"
    done
}

apt_install() {
    # Another apt may be at work on a machine that has just been started: wait for it.
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" >&2
}

# need PACKAGE...: afterwards the packages are there, or the script has ended.
need() {
    local lacking
    command -v dpkg-query >/dev/null || fail "this script knows Debian and Ubuntu; install these in your way: $*"
    mapfile -t lacking < <(missing "$@")
    [ "${#lacking[@]}" -gt 0 ] || return 0
    is_root || fail "packages are missing; an administrator can install them with
    sudo apt-get install -y --no-install-recommends ${lacking[*]}"
    say "installing ${lacking[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update >&2
    apt_install "${lacking[@]}"
}

# want PACKAGE...: as need, but an ordinary user goes on without them and root goes on without those the distribution lacks.
want() {
    local lacking package
    mapfile -t lacking < <(missing "$@")
    [ "${#lacking[@]}" -gt 0 ] || return 0
    if ! is_root; then
        say "going on without some packages; an administrator can install them with
    sudo apt-get install -y --no-install-recommends ${lacking[*]}"
        return 0
    fi
    say "installing ${lacking[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update >&2
    apt_install "${lacking[@]}" && return 0
    for package in "${lacking[@]}"; do
        apt_install "$package" || say "going on without $package"
    done
}

# has_rust CARGO: whether this cargo comes with a compiler that is new enough.
has_rust() {
    local minor
    minor=$("$1" --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p')
    [ -n "$minor" ] && [ "$minor" -ge "$RUST_MINOR" ]
}

# The version apt would install, reduced to the minor number of 1.x.
apt_rust_minor() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: 1\.\([0-9]*\)\..*/\1/p'; }

# Prints the packages of the distribution that hold a Rust new enough, or nothing.
rust_packages() {
    local minor suffix
    # Debian keeps a current compiler for its browsers beside the one of the release.
    for suffix in '' -web; do
        minor=$(apt_rust_minor "cargo$suffix")
        if [ -n "$minor" ] && [ "$minor" -ge "$RUST_MINOR" ]; then
            # The formatter has its own package; older releases have none for the linter.
            if [ -z "$suffix" ]; then printf 'cargo rustc rustfmt rust-clippy\n'; else printf 'cargo-web rustc-web rustfmt-web\n'; fi
            return
        fi
    done
    # Ubuntu numbers its compilers.
    for minor in $(apt-cache pkgnames cargo-1. 2>/dev/null | sed -n 's/^cargo-1\.\([0-9]*\)$/\1/p' | sort -rn); do
        [ "$minor" -ge "$RUST_MINOR" ] || break
        printf 'cargo-1.%s rustc-1.%s\n' "$minor" "$minor"
        return
    done
}

# Puts the directory of a numbered Ubuntu compiler on PATH, if there is one.
use_numbered_rust() {
    local directory
    for directory in /usr/lib/rust-1.*/bin; do
        if [ -x "$directory/cargo" ] && has_rust "$directory/cargo"; then PATH="$directory:$PATH"; fi
    done
}

# need_compiler WISHED...: afterwards a C compiler and a new enough `cargo` are there, or the script has ended.
#
# An ordinary user is told of everything in one command: with what is missing come those of the wished packages that are.
need_compiler() {
    local lacking rust=''
    [ -d "$HOME/.cargo/bin" ] && PATH="$PATH:$HOME/.cargo/bin"
    use_numbered_rust
    has_rust cargo || rust=$(rust_packages)
    if is_root; then
        need "${BUILD_PACKAGES[@]}"
        if has_rust cargo; then share_rust; else install_rust; fi
        return
    fi
    mapfile -t lacking < <(missing "${BUILD_PACKAGES[@]}")
    if [ "${#lacking[@]}" -gt 0 ] || [ -n "$rust" ]; then
        mapfile -t lacking < <(missing "${BUILD_PACKAGES[@]}" "$@")
        fail "packages are missing; an administrator can install them with
    sudo apt-get install -y --no-install-recommends $(printf '%s ' "${lacking[@]}")$rust"
    fi
    has_rust cargo || fail "Rust 1.$RUST_MINOR or later is missing; install it from https://rustup.rs"
}

# Installs Rust as root: the distribution's, or rustup's where that is too old.
install_rust() {
    local packages
    packages=$(rust_packages)
    if [ -z "$packages" ]; then
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update >&2
        packages=$(rust_packages)
    fi
    if [ -n "$packages" ]; then
        say "installing Rust: $packages"
        # shellcheck disable=SC2086
        apt_install $packages || fail "cannot install Rust"
    else
        say "installing Rust with rustup"
        need curl
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt >&2
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    hash -r
    use_numbered_rust
    has_rust cargo || fail "there is still no cargo of version 1.$RUST_MINOR or later"
}

# Root's own Rust is of no use to others: give the machine one too, so that the same commands work for its users.
share_rust() {
    local packages cargo
    cargo=$(command -v cargo)
    is_root || return 0
    case "$cargo" in "$HOME"/*) ;; *) return 0 ;; esac
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin has_rust cargo && return 0
    packages=$(rust_packages)
    [ -n "$packages" ] || return 0
    say "installing Rust for the other users of this machine: $packages"
    # shellcheck disable=SC2086
    apt_install $packages || say "that failed; only root can compile mica here"
}

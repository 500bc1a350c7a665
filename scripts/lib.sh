# lib.sh - what every script here sources: strict mode, the project's root, and apt packages installed only where missing.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# The folder where the program keeps its cache too (docs/opencl.md), here for downloads: nothing in it that cannot be had again.
cache=${POLLARD_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/pollard}
PATH=$cache/cmake/cmake/data/bin:$PATH       # only where install-deps.sh had to put a newer CMake there
cuda_toolkit=$cache/cuda/nvidia/cu13          # only where install-deps.sh had to put one there

say() { printf '==> %s\n' "$*"; }
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# as_root COMMAND...: as it is for root, else through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "'$*' needs root, and sudo is not there: run it as root, then this script again"
    fi
}

# retry N COMMAND...: a download that fails once is not the end of a run.
retry() {
    local left=$1
    shift
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        say "'$*' did not succeed; attempts left: $left"
        sleep 5
    done
}

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Package lists are fetched at most once a script run, and only when something has to come from them.
apt_lists_fresh=
apt_update() {
    [ -z "$apt_lists_fresh" ] || return 0
    retry 3 as_root apt-get update -qq || die "the package lists cannot be updated"
    apt_lists_fresh=yes
}

# find_missing PACKAGE...: leaves in `missing` those that are not installed.
find_missing() {
    local p
    command -v dpkg-query >/dev/null || die "needs Debian or Ubuntu (dpkg); elsewhere install what docs/building.md lists"
    missing=()
    for p in "$@"; do
        is_installed "$p" || missing+=("$p")
    done
}

install_packages() {
    [ $# -gt 0 ] || return 0
    say "installing with apt: $*"
    retry 3 as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        die "not installed: $*"
}

# need_packages PACKAGE...: installs what is missing and says so; silent when nothing is.
need_packages() {
    local missing
    find_missing "$@"
    [ ${#missing[@]} -gt 0 ] || return 0
    apt_update
    install_packages "${missing[@]}"
}

# want_packages PURPOSE PACKAGE...: the same, but does without those that this distribution does not have, aloud.
want_packages() {
    local purpose=$1 missing there=() absent=() p
    find_missing "${@:2}"
    [ ${#missing[@]} -gt 0 ] || return 0
    apt_update
    for p in "${missing[@]}"; do
        if apt-cache show "$p" >/dev/null 2>&1; then there+=("$p"); else absent+=("$p"); fi
    done
    install_packages "${there[@]}"
    if [ ${#absent[@]} -gt 0 ]; then say "NOT packaged here, so there is no $purpose: ${absent[*]}"; fi
}

# find_nvcc: leaves in `nvcc` the path of the CUDA compiler, the system's or the one in our cache; false where there is none of CUDA 12
# or later (distributions may have an older one).
find_nvcc() {
    local release
    for nvcc in "$(command -v nvcc)" /usr/local/cuda/bin/nvcc "$cuda_toolkit/bin/nvcc"; do
        [ -x "$nvcc" ] || continue
        release=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\).*/\1/p')
        [ "${release:-0}" -lt 12 ] || return 0
    done
    return 1
}

# configure PRESET [-DNAME=VALUE...]: compiles go through ccache where that is there.
configure() {
    local preset=$1 options=() nvcc
    shift
    if command -v ccache >/dev/null; then
        options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
    fi
    if find_nvcc; then options+=(-DCMAKE_CUDA_COMPILER="$nvcc"); fi
    cmake -S "$root" --preset "$preset" "${options[@]}" "$@"
}

# build PRESET [-DNAME=VALUE...]: configures build/PRESET and builds all of it.
build() {
    say "configuring and building preset '$1'"
    configure "$@"
    cmake --build "$root/build/$1" -j"$(nproc)"
}

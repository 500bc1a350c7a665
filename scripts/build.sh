#!/usr/bin/env bash
# Installs what is missing, configures and builds.
#
#   scripts/build.sh [release|debug|asan|tsan|fuzz] [-DNAME=VALUE...]
. "$(dirname "$0")/lib.sh"

preset=release
case ${1:-} in -* | '') ;; *) preset=$1; shift ;; esac
if [ "$preset" = fuzz ]; then bash "$root/scripts/install-deps.sh" --fuzz; else bash "$root/scripts/install-deps.sh"; fi
build "$preset" "$@"
say "built: build/$preset/bin"

#!/usr/bin/env bash
# Formats the C, C++ and CUDA files as .clang-format says.
#
#   scripts/format.sh [--check] [FILE...]
#
#   --check  changes nothing; prints what would change and ends with 1 if anything would
. "$(dirname "$0")/lib.sh"

check=
if [ "${1:-}" = --check ]; then
    check=yes
    shift
fi
bash "$root/scripts/install-deps.sh" --format
cd "$root"
files=("$@")
[ ${#files[@]} -gt 0 ] || mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.c' '*.h' '*.cpp' '*.cu' '*.cuh')
if [ -n "$check" ]; then
    clang-format --dry-run --Werror "${files[@]}"
else
    clang-format -i "${files[@]}"
fi

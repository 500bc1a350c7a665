#!/usr/bin/env bash
# Builds the fuzz preset and fuzzes. Inputs that break something are left in build/fuzz/found/TARGET: fix the code, then add the input to
# tests/fuzz/corpus/TARGET, where ctest replays it for ever.
#
#   scripts/fuzz.sh [TARGET|all] [SECONDS each, 60 if not given]
. "$(dirname "$0")/lib.sh"

case ${1:-} in -*) die "unknown option '$1' ([TARGET|all] [SECONDS])" ;; esac
target=${1:-all}
seconds=${2:-60}
bash "$root/scripts/install-deps.sh" --fuzz
cd "$root"
configure fuzz
cmake --build build/fuzz --target fuzzers -j"$(nproc)"

shopt -s nullglob
if [ "$target" = all ]; then programs=(build/fuzz/bin/*-libfuzzer); else programs=("build/fuzz/bin/$target-libfuzzer"); fi
[ ${#programs[@]} -gt 0 ] || die "there is no fuzz target"
broken=()
for program in "${programs[@]}"; do
    [ -x "$program" ] || die "there is no fuzz target '$target'"
    name=$(basename "$program" -libfuzzer)
    mkdir -p "build/fuzz/corpus/$name" "build/fuzz/found/$name"
    say "$name: $seconds s"
    OMP_NUM_THREADS=1 "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/found/$name/" "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name" || broken+=("$name")
done
[ ${#broken[@]} -eq 0 ] || die "broke: ${broken[*]}; the inputs are in build/fuzz/found"
say "nothing found in ${#programs[@]} target(s)"

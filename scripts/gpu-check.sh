#!/usr/bin/env bash
# Checks and measures the CUDA backend on this machine's GPU, within 9 minutes: builds; conformance of every op; repair; compute-sanitizer;
# SmolLM2-135M end to end beside the CPU's numbers, resumed, streamed, on two GPUs; benchmarks, and PyTorch beside them. Writes what came
# of each stage to docs/results/gpu-CARD.md. Ends with 1 where a stage has failed; a goal that is not met is no failure.
#
#   scripts/gpu-check.sh [--simulate] [--build DIR]
#
#   --simulate   the same on the tests' simulator, at toy sizes, with a model of the tests: tries this script, measures nothing. Results are
#                left in the build folder
#   --build DIR  uses what is built there; else build/release is built first
#
# $POLLARD_TEST_SMOLLM2 is the model where it lies elsewhere, $PYTHON a Python that has torch (python3). What has to be downloaded and
# cannot be is left out, aloud.
. "$(dirname "$0")/lib.sh"
. "$root/scripts/smollm2.sh"

simulate=
build=
while [ $# -gt 0 ]; do
    case $1 in
    --simulate) simulate=yes ;;
    --build)
        [ $# -gt 1 ] || die "--build: which folder?"
        build=$(cd "$2" && pwd)
        shift
        ;;
    *) die "unknown option '$1' (--simulate, --build DIR)" ;;
    esac
    shift
done
built=$build
build=${build:-$root/build/release}
bin=$build/bin
pollard=$bin/pollard
budget_end=$((SECONDS + 540))
work=$(mktemp -d)
stage_group=
trap '[ -z "$stage_group" ] || kill -KILL -- "-$stage_group" 2>/dev/null; rm -rf "$work"' EXIT
mkdir -p "$cache"

# Tests and tools look for the module where this build has it.
if [ -n "$simulate" ]; then
    export POLLARD_MODULE_DIR=$build/tests/cuda POLLARD_SIM_DEVICES=2
else
    export POLLARD_MODULE_DIR=$build/lib
fi

# --- stages ----------------------------------------------------------------------------------------------------------------------
# A stage is a function in a shell of its own. It ends with 0; with `leave_out WHY`, where something that it needs is not to be had; or with
# anything else, which is a failure. What it notes, with `note`, is in the results.
stages=()  # rows of the table
failed=()  # names
LEFT_OUT=77

note() { printf '%s\n' "$*" | tee -a "$work/notes"; }
leave_out() {
    note "$*"
    exit $LEFT_OUT
}

# limited SECONDS LOG FUNCTION: leaves in `code` what the stage ended with, or "cut". Its processes are a group of their own.
limited() {
    local end=$((SECONDS + $1))
    code=0
    set -m
    (set -e && "$3") </dev/null >"$2" 2>&1 &
    stage_group=$!
    set +m
    while kill -0 "$stage_group" 2>/dev/null && [ $SECONDS -lt $end ]; do sleep 0.1; done
    if kill -0 "$stage_group" 2>/dev/null; then
        code="cut"
        kill -KILL -- "-$stage_group"
        wait "$stage_group" 2>/dev/null || true
    else
        wait "$stage_group" || code=$?
    fi
    stage_group=
}

# stage NAME SECONDS FUNCTION: with at most so many seconds, and what is left of the budget.
stage() {
    local limit=$2 log=$work/$3.log start=$SECONDS left=$((budget_end - SECONDS)) outcome code
    if [ -n "$simulate" ]; then limit=$left; fi # a simulation is as slow as the machine is busy
    say "$1"
    : >"$work/notes"
    if [ "$left" -lt 5 ]; then code=late; else limited $((limit < left ? limit : left)) "$log" "$3"; fi
    case $code in
    0) outcome=passed ;;
    late) outcome="NOT RUN: no time was left" ;;
    "$LEFT_OUT") outcome="NOT RUN" ;;
    cut) if [ "$limit" -lt "$left" ]; then outcome="FAILED: not done after $limit s"; else outcome="CUT: the 9 minutes were over"; fi ;;
    *) outcome=FAILED ;;
    esac
    if [ -s "$work/notes" ]; then outcome="$outcome: $(paste -sd ';' "$work/notes" | sed 's/;/; /g')"; fi
    case $outcome in FAILED*)
        failed+=("$1")
        tail -n 25 "$log" | sed 's/^/      /'
        ;;
    esac
    say "$1: $outcome ($((SECONDS - start)) s)"
    stages+=("| $1 | $outcome | $((SECONDS - start)) |")
}

# --- build and device ------------------------------------------------------------------------------------------------------------
build_it() {
    if [ -n "$simulate" ]; then
        build release
        return
    fi
    bash "$root/scripts/install-deps.sh" --cuda --demo || note "packages could not be installed"
    find_nvcc || { note "there is no nvcc, and it could not be installed"; return 1; }
    build release -DPOLLARD_CUDA=ON
}

# field FILE KEY: a number or a word of a JSON object that has the key once.
field() { sed -n 's/.*"'"$2"'": *"\{0,1\}\([^",}]*\).*/\1/p' "$1" | head -n 1; }

# near A B MOST: two numbers, so far apart at most.
near() {
    awk -v a="$1" -v b="$2" -v most="$3" 'BEGIN {
        number = "^-?[0-9]+[.]?[0-9]*([eE][-+]?[0-9]+)?$"
        d = a - b
        exit !(a ~ number && b ~ number && d <= most && -d <= most) }'
}

# Names of the GPUs that can be used.
cards() {
    awk -F '"' '/"backend": "cuda"/ { cuda = 1 } /"name":/ { name = $4 } /"usable": true/ && cuda { print name } /}/ { cuda = 0 }' \
        "$work/devices.json"
}

list_devices() {
    "$pollard" devices
    "$pollard" devices --json >"$work/devices.json"
    [ -n "$(cards)" ] || { note "no GPU that can be used"; return 1; }
}

conformance() {
    "$bin/test_conformance" cuda | tee "$work/conformance.txt"
    [ "$(grep -c '^on cuda ' "$work/conformance.txt")" -eq "$(cards | wc -l)" ]
}

# A sweep and a solution on the device, in f64, against elimination in long double.
repair() { POLLARD_TEST_REPAIR=cuda "$bin/test_repair_ops"; }

# --- compute-sanitizer -----------------------------------------------------------------------------------------------------------
find_sanitizer() {
    sanitizer=$(command -v compute-sanitizer) && return
    find_nvcc && [ -x "$(dirname "$nvcc")/compute-sanitizer" ] && sanitizer=$(dirname "$nvcc")/compute-sanitizer && return
    sanitizer=$cache/compute-sanitizer/nvidia/cu13/bin/compute-sanitizer
    [ ! -x "$sanitizer" ] || return 0
    say "installing compute-sanitizer from PyPI into $cache/compute-sanitizer"
    rm -rf "$cache/compute-sanitizer.part"
    python3 -m pip install --quiet --no-deps --target "$cache/compute-sanitizer.part" 'nvidia-cuda-sanitizer-api==13.0.*' || return 1
    mv "$cache/compute-sanitizer.part" "$cache/compute-sanitizer"
}

# under TOOL OPTIONS...: a conformance run. A call that fails shows in that by itself.
under() {
    local sanitizer
    [ -z "$simulate" ] || leave_out "the simulator checks kernels itself"
    find_sanitizer || leave_out "compute-sanitizer is neither installed nor to be had from PyPI"
    "$sanitizer" --tool "$1" --error-exitcode 9 "${@:2}" "$bin/test_conformance" cuda
}
# Of the checks that look at shared memory and barriers, what cuBLASLt does inside is left out: our own kernels are those of the table,
# and a mangled name has the kernel's in it, after its length.
ours=()
for kernel in $(sed '/^#/d; s/^void //; s/[<(].*//' "$root/bench/kernels-cu.txt" | sort -u); do
    ours+=(--kernel-name "kernel_substring=${#kernel}$kernel")
done
memcheck() { under memcheck --report-api-errors no; }
racecheck() { under racecheck "${ours[@]}"; }
synccheck() { under synccheck "${ours[@]}"; }

# --- a model end to end ----------------------------------------------------------------------------------------------------------
# Any English text will do: the numbers of two devices are compared, not the model's worth.
end_to_end_inputs() {
    cat "$root"/docs/*.md "$root/README.md" >"$work/text.txt"
    if [ -n "$simulate" ]; then
        model=$root/tests/data/models/trained
    elif [ -n "${POLLARD_TEST_SMOLLM2:-}" ]; then
        model=$POLLARD_TEST_SMOLLM2
    else
        fetch_model || leave_out "the model could not be downloaded"
    fi
    printf '%s\n' "$model" >"$work/model"
}

# The stages of one model; all but the first need what the first has found.
model_of_stages() {
    [ -s "$work/model" ] || leave_out "there is no model"
    cat "$work/model"
}

if [ -n "$simulate" ]; then
    evaluation=(--seq-len 32 --limit 2)
    steps=3 many_steps=3
    learning=(--seq-len 16 --sequences-per-mask 1 --held-out 2)
else
    evaluation=(--seq-len 128 --limit 64)
    steps=10 many_steps=400
    learning=(--seq-len 32 --sequences-per-mask 2 --held-out 8)
fi

evaluate() { # NAME OPTIONS...
    "$pollard" eval "$model" --text "$work/text.txt" "${evaluation[@]}" --json "${@:2}" >"$work/$1.json"
    printf '%s: NLL %s\n' "$1" "$(field "$work/$1.json" nll)"
}

# The same masks as long as probabilities are alike: uniform ones at first, whatever the device.
learning+=(--keep 0.8 --method reference --init uniform --no-repair)
become_run() { # NAME STEPS OPTIONS...: this shell becomes the program
    exec "$pollard" prune "$model" --data "$work/text.txt" "${learning[@]}" --steps "$2" --eval-every "$2" --out "$work/$1" "${@:3}"
}
learn() { (become_run "$@"); }

step_field() { sed -n 's/.*"'"$2"'":\([^,}]*\).*/\1/p' "$work/$1/log.jsonl"; }

# near_steps A B LOSS: each step's loss, so far apart at most, relatively; the first step's masks are the same, later ones nearly: where
# probabilities differ in the last digits a draw can come out otherwise, and a group of heads is 0.3 % of the parameters.
near_steps() {
    paste <(step_field "$1" loss) <(step_field "$2" loss) <(step_field "$1" kept) <(step_field "$2" kept) | awk -v most="$3" '
        function off(a, b) { return a > b ? a - b : b - a }
        NF != 4 || !(off($1, $2) <= most * $1) || !(off($3, $4) <= (NR == 1 ? 0 : 0.005)) { print "step " NR - 1 ": " $0; bad = 1 }
        { worst = off($1, $2) / $1 > worst ? off($1, $2) / $1 : worst }
        END { print "losses of " NR " steps differ by at most " worst ", relatively"; exit bad || !NR }'
}

# same_run A B: bit for bit, but for what a clock has measured.
same_run() {
    local run
    cmp "$work/$1/mask.json" "$work/$2/mask.json"
    for run in "$1" "$2"; do sed 's/,"tokens_per_second":[^,}]*//' "$work/$run/log.jsonl" >"$work/$run.log"; done
    cmp "$work/$1.log" "$work/$2.log"
}

end_to_end() {
    end_to_end_inputs
    evaluate dense-cuda --backend cuda
    evaluate dense-cpu --backend cpu
    note "dense NLL $(field "$work/dense-cuda.json" nll), cpu $(field "$work/dense-cpu.json" nll)"
    near "$(field "$work/dense-cuda.json" nll)" "$(field "$work/dense-cpu.json" nll)" 0.02
    learn run-cuda $steps --backend cuda --device 0
    learn run-cpu $steps --backend cpu
    near_steps run-cuda run-cpu 0.01 | tee -a "$work/notes"
}

log_lines() { if [ -f "$work/$1/log.jsonl" ]; then wc -l <"$work/$1/log.jsonl"; else echo 0; fi; }

resume() {
    model=$(model_of_stages)
    local pid code=0
    learn run-whole $many_steps --backend cuda --device 0
    become_run run-resumed $many_steps --backend cuda --device 0 &
    pid=$!
    until [ "$(log_lines run-resumed)" -ge 2 ] || ! kill -0 $pid 2>/dev/null; do sleep 0.02; done
    kill -TERM $pid 2>/dev/null || true
    wait $pid || code=$?
    case $code in
    130) note "stopped after $(log_lines run-resumed) of $many_steps steps" ;;
    0) note "it was done before it could be stopped" ;;
    *) note "it ended with $code when it was stopped" && return 1 ;;
    esac
    learn run-resumed $many_steps --backend cuda --device 0 --resume
    same_run run-whole run-resumed
}

streamed() {
    model=$(model_of_stages)
    local all weights limit
    "$pollard" estimate "$model" --data "$work/text.txt" "${learning[@]}" --steps $steps --backend cuda --device 0 --json >"$work/estimate.json"
    weights=$(field "$work/estimate.json" weight_bytes)
    all=$((weights + $(field "$work/estimate.json" activation_bytes)))
    limit=$((all - weights / 4))
    note "in $limit of $all bytes"
    learn run-streamed $steps --backend cuda --device 0 --memory-limit $limit
    grep '"streamed": true' "$work/run-streamed/run.json"
    same_run run-cuda run-streamed
}

two_devices() {
    model=$(model_of_stages)
    [ "$(cards | wc -l)" -gt 1 ] || leave_out "one GPU is here"
    learn run-two $steps --backend cuda --device 0,1
    same_run run-cuda run-two
}

# --- benchmarks ------------------------------------------------------------------------------------------------------------------
measure() {
    if [ -n "$simulate" ]; then
        "$bin/bench_cuda_sim" --shape toy --batch 2 --seq-len 16 --rounds 1 --cells 2 --streamed-cells 2 --square 64 --copy-mb 1 --json "$work/bench.json"
    else
        "$bin/bench_cuda" --json "$work/bench.json"
    fi
}

compare_torch() {
    local python=${PYTHON:-python3} ours theirs options=()
    "$python" -c 'import torch' 2>/dev/null || leave_out "$python has no torch"
    if [ -n "$simulate" ]; then
        options=(--device cpu --layers 2 --hidden 64 --ffn 160 --heads 4 --groups 2 --vocab 300 --batch 2 --seq-len 16 --rounds 3)
    else
        "$python" -c 'import torch; exit(not torch.cuda.is_available())' || leave_out "torch finds no GPU"
    fi
    "$python" "$root/bench/cuda/dense_masked.py" "${options[@]}" --json "$work/torch.json"
    ours=$(sed -n '/"step_tokens"/,/}/s/.*"value": \([^,]*\).*/\1/p' "$work/bench.json")
    theirs=$(field "$work/torch.json" tokens_per_second)
    awk -v a="$ours" -v b="$theirs" 'BEGIN {
        printf "a fresh mask and its pass, tokens/s over PyTorch'"'"'s: %.2f  (goal: at least 2.5, %s)\n", a / b, (a >= 2.5 * b) ? "met" : "NOT met"
        exit !(a > 0 && b > 0) }' | tee -a "$work/notes"
}

simulator_tests() {
    [ -z "$simulate" ] || leave_out "they are the others of this build"
    unset POLLARD_MODULE_DIR
    ctest --test-dir "$build" -L cuda -LE slow -j"$(nproc)" --output-on-failure
}

# --- results ---------------------------------------------------------------------------------------------------------------------
driver_name() {
    local version
    version=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader -i 0 2>/dev/null) || version=unknown
    if [ -n "$simulate" ]; then version=simulated; fi
    printf '%s\n' "$version"
}

toolkit_name() {
    if [ -z "$simulate" ] && find_nvcc; then "$nvcc" --version | sed -n 's/.*release \(.*\)/\1/p'; else echo none; fi
}

commit_name() {
    local dirty=
    git -C "$root" diff --quiet HEAD 2>/dev/null || dirty=" with changes"
    printf '%s%s\n' "$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)" "$dirty"
}

write_results() {
    local card slug name
    card=$(cards | head -n 1)
    slug=$(printf '%s' "$card" | tr '[:upper:]' '[:lower:]' | sed 's/[^a-z0-9]\{1,\}/-/g; s/^nvidia-//; s/^-//; s/-$//')
    results=$root/docs/results/gpu-$slug.md
    if [ -n "$simulate" ]; then results=$build/gpu-$slug.md; fi
    {
        printf '# CUDA on %s\n\n' "$card"
        if [ -n "$simulate" ]; then printf '**Simulated on the processor: the script was tried, nothing was measured.**\n\n'; fi
        printf '| | |\n| --- | --- |\n'
        printf '| %s | %s |\n' card "$card" driver "$(driver_name)" toolkit "$(toolkit_name)" commit "$(commit_name)" date "$(date -u +%F)"
        printf '\n`scripts/gpu-check.sh`; seconds in all: %d.\n\n' $SECONDS
        printf '| stage | outcome | s |\n| --- | --- | --- |\n'
        printf '%s\n' "${stages[@]}"
        for name in measure compare_torch; do
            [ ! -s "$work/$name.log" ] || printf '\n```\n%s\n```\n' "$(cat "$work/$name.log")"
        done
    } >"$results"
    say "results: ${results#"$root"/}"
}

if [ -z "$built" ]; then stage "build" 300 build_it; fi
[ ${#failed[@]} -eq 0 ] || die "there is no build to check"
stage "devices" 60 list_devices
[ ${#failed[@]} -eq 0 ] || die "there is no GPU to check"
stage "conformance of every op" 60 conformance
stage "repair, against its definition" 60 repair
stage "memcheck" 60 memcheck
stage "racecheck" 90 racecheck
stage "synccheck" 60 synccheck
stage "end to end, beside the CPU" 90 end_to_end
stage "stopped and resumed, bit for bit" 40 resume
stage "streamed, bit for bit as resident" 60 streamed
stage "two GPUs, bit for bit" 40 two_devices
stage "benchmarks" 120 measure
stage "PyTorch, dense model times a mask" 60 compare_torch
stage "tests on the simulator" 120 simulator_tests
write_results
[ ${#failed[@]} -eq 0 ] || die "failed: $(printf '%s, ' "${failed[@]}" | sed 's/, $//')"

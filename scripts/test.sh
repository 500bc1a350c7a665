#!/usr/bin/env bash
# Installs what is missing, builds with warnings as errors and runs the tests: under the sanitizers first, then all of them on the
# release build. Stops at the first stage that fails; the last thing printed is the summary of the ctest run that decided.
#
#   scripts/test.sh [--fast]
#
#   --fast  the release build only, without the tests labelled slow
. "$(dirname "$0")/lib.sh"

fast=
case ${1:-} in
--fast) fast=yes ;;
'') ;;
*) die "unknown option '$1' (--fast)" ;;
esac
bash "$root/scripts/install-deps.sh" --test
cd "$root"

# Where there is a driver, a missing device is a failure, and so is a build without the backend.
stages=()
opencl=()
if is_installed pocl-opencl-icd && is_installed libclblast-dev; then
    export POLLARD_TEST_OPENCL=required
    opencl=(-DPOLLARD_OPENCL=ON)
else
    stages+=("NOT RUN  tests of the OpenCL backend: no PoCL or no CLBlast here")
fi

# Thread and address sanitizers need a memory layout that some kernels' randomisation does not leave them.
steady=()
if setarch "$(uname -m)" -R true 2>/dev/null; then steady=(setarch "$(uname -m)" -R); fi

# The same for CUDA's compiler; what it compiles runs on a simulator, which needs no toolkit.
cuda=()
if find_nvcc; then
    cuda=(-DPOLLARD_CUDA=ON)
else
    stages+=("NOT RUN  compiling the CUDA backend: no nvcc here")
fi

# stage NAME COMMAND...: runs it and keeps its time for the table of stages.
stage() {
    local name=$1 start=$SECONDS
    shift
    say "$name"
    "$@"
    stages+=("$(printf '%4d s  %s' $((SECONDS - start)) "$name")")
}

# A program made with a sanitizer may not start at all in a confined container; then its stage proves nothing and is left out, aloud.
sanitizer_starts() {
    local probe
    probe=$(mktemp)
    echo 'int main(void) { return 0; }' | gcc "-fsanitize=$1" -x c - -o "$probe" && "${steady[@]}" "$probe"
    local code=$?
    rm -f "$probe"
    return $code
}

check() { "${steady[@]}" ctest --preset "$1" -j"$(nproc)" "${@:2}"; }

stage "build release" build release -DPOLLARD_WERROR=ON "${opencl[@]}" "${cuda[@]}"
if [ -n "$fast" ]; then
    check release -LE slow
    exit
fi
for preset in asan tsan; do
    case $preset in asan) sanitizer=address ;; tsan) sanitizer=thread ;; esac
    if sanitizer_starts "$sanitizer"; then
        stage "build $preset" build $preset -DPOLLARD_WERROR=ON -DPOLLARD_CUDA=OFF "${opencl[@]}"
        stage "test $preset" check $preset
    else
        stages+=("NOT RUN  $preset: programs made with -fsanitize=$sanitizer do not start here")
    fi
done
say "stages so far, all passed:"
printf '      %s\n' "${stages[@]}"
say "test release: all tests"
check release

#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that Pollard is built from, those that are missing only.
#
#   scripts/install-deps.sh [--cuda] [--test] [--demo] [--fuzz] [--format]
#
#   --cuda    also the CUDA toolkit's compiler and cuBLAS, about 0.9 GB, from PyPI into the cache folder, where no nvcc of CUDA 12 or
#             later is installed. Needs no GPU. Without the option this is done on a machine that has an NVIDIA driver
#   --test    also --cuda, and what the OpenCL backend is tested with: PoCL, a device that every machine has; oclgrind, which watches
#             what kernels do to memory; clang, a second compiler for the kernels
#   --demo    also what scripts/demo.sh and scripts/gpu-check.sh need: pip and unzip, to fetch the model
#   --fuzz    also clang, for scripts/fuzz.sh
#   --format  also clang-format, for scripts/format.sh
. "$(dirname "$0")/lib.sh"

packages=(
    gcc libc6-dev g++             # g++: only tests: that the public headers are good C++, and the CUDA simulator
    cmake ninja-build pkg-config git ca-certificates
    libopenblas-openmp-dev        # the OpenMP variant: one thread pool for BLAS and for the ops around it
    libjansson-dev libpcre2-dev libutf8proc-dev libxxhash-dev libzstd-dev zlib1g-dev
    libcmocka-dev
)
opencl=(ocl-icd-opencl-dev opencl-headers libclblast-dev)
opencl_tests=()
cuda=
if [ -e /proc/driver/nvidia/version ]; then cuda=yes; fi
for option in "$@"; do
    case $option in
    --cuda) cuda=yes ;;
    --test) cuda=yes opencl_tests=(pocl-opencl-icd oclgrind clang) ;;
    --demo) packages+=(python3 python3-pip unzip) ;;
    --fuzz) packages+=(clang libclang-rt-dev libomp-dev) ;;
    --format) packages+=(clang-format) ;;
    *) die "unknown option '$option' (--cuda, --test, --demo, --fuzz, --format)" ;;
    esac
done
need_packages "${packages[@]}"
want_packages "OpenCL backend" "${opencl[@]}"
want_packages "test of the OpenCL backend with them" "${opencl_tests[@]}"

# Presets and the package config need CMake 3.25, which Debian 12 and Ubuntu 24.04 have. Ubuntu 22.04's is older: there a newer one
# comes from PyPI into the cache folder, which lib.sh puts on the path.
cmake_is_new() { dpkg --compare-versions "$(cmake --version | sed -n '1s/.* //p')" ge 3.25; }
if ! cmake_is_new; then
    need_packages python3 python3-pip
    say "installing CMake from PyPI into $cache/cmake"
    retry 3 python3 -m pip install --quiet --upgrade --target "$cache/cmake" 'cmake>=3.25,<4'
    hash -r
    PATH=$cache/cmake/cmake/data/bin:$PATH
    cmake_is_new || die "$(cmake --version | head -n 1) is too old, 3.25 is needed"
fi

# NVIDIA's packages on PyPI have the compiler and cuBLAS for x86-64 and 64-bit Arm. nvcc looks for libraries in lib64, and the linker
# wants them by their short names.
install_cuda() {
    need_packages python3 python3-pip
    say "installing the CUDA 13.0 compiler and cuBLAS from PyPI into $cache/cuda"
    rm -rf "$cache/cuda" "$cache/cuda.part"
    retry 3 python3 -m pip install --quiet --no-deps --target "$cache/cuda.part" \
        'nvidia-cuda-nvcc==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-runtime==13.0.*' \
        'nvidia-cuda-cccl==13.0.*' 'nvidia-cublas==13.0.*' || return 1
    local toolkit=$cache/cuda.part/nvidia/cu13 library
    for library in cublasLt cudart; do ln -sf "lib$library.so.13" "$toolkit/lib/lib$library.so"; done
    ln -sfn lib "$toolkit/lib64"
    mv "$cache/cuda.part" "$cache/cuda"
}
if [ -n "$cuda" ] && ! find_nvcc; then
    install_cuda || say "NOT installed: the CUDA toolkit, so there is no CUDA backend"
fi

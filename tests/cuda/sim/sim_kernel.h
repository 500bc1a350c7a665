/* sim_kernel.h - the simulator's side of kernels-cu/device.cuh: shared memory that checks who touches it, tiles, copies
 * that take effect as late as they may, and launches that go through the runtime's queues.
 */
#ifndef SIM_KERNEL_H
#define SIM_KERNEL_H

#include <cuda_bf16.h>
#include <cuda_pipeline.h>
#include <cuda_runtime.h>
#include <mma.h>

#include <tuple>
#include <type_traits>

#include "sim.h"

/* Bytes of the running block's shared memory, from `at` on. Each stops the kernel that has no right to it. */
void sim_shared_take(size_t at, size_t bytes, size_t alignment);
void sim_shared_load(size_t at, void *to, size_t bytes);
void sim_shared_store(size_t at, const void *from, size_t bytes);
void sim_shared_outside(int64_t i, int64_t n, size_t element_bytes);
void sim_shared_copy_async(size_t at, const void *from, size_t bytes);

/* One element, for as long as an expression lasts. It converts to T and is assigned to like a T; that it must be a
 * temporary keeps `auto x = p[i]` from compiling, which here would not be the element's value but a way to it. */
template <class T> class shared_element
{
  public:
    explicit shared_element(size_t byte) : at(byte) {}
    shared_element(const shared_element &) = delete;

    operator T() const &&
    {
        T x;
        sim_shared_load(at, &x, sizeof x);
        return x;
    }
    const shared_element &operator=(const T &x) const &&
    {
        sim_shared_store(at, &x, sizeof x);
        return *this;
    }
    const shared_element &operator=(const shared_element &other) const && { return std::move(*this) = T(other.get()); }
    const shared_element &operator+=(const T &x) const && { return std::move(*this) = T(get() + x); }
    const shared_element &operator-=(const T &x) const && { return std::move(*this) = T(get() - x); }
    const shared_element &operator*=(const T &x) const && { return std::move(*this) = T(get() * x); }

  private:
    T get() const
    {
        T x;
        sim_shared_load(at, &x, sizeof x);
        return x;
    }
    size_t at;
};

template <class T> class shared_array
{
    static_assert(std::is_trivially_copyable<T>::value && alignof(T) % 2 == 0,
                  "shared memory is checked in pairs of bytes");

  public:
    shared_array(size_t byte, size_t elements) : begin(byte), n((int64_t)elements), first(0) {}

    shared_element<T> operator[](int64_t i) const { return shared_element<T>(byte_of(i, 1)); }
    shared_array operator+(int64_t elements) const
    {
        shared_array moved = *this;
        moved.first += elements;
        return moved;
    }
    shared_array operator-(int64_t elements) const { return *this + -elements; }
    shared_array &operator+=(int64_t elements) { return *this = *this + elements; }

    /* Where elements i .. i + count - 1 lie, which must be within the array. */
    size_t byte_of(int64_t i, int64_t count) const
    {
        const int64_t at = first + i;
        if (at < 0 || at + count > n)
            sim_shared_outside(at < 0 ? at : at + count - 1, n, sizeof(T));
        return begin + (size_t)at * sizeof(T);
    }

  private:
    size_t begin;
    int64_t n, first;
};

template <class T> static inline shared_array<T> shared_memory(size_t at, size_t n)
{
    sim_shared_take(at, n * sizeof(T), alignof(T));
    return shared_array<T>(at, n);
}

template <int N = 1, class T> static inline void copy_async(shared_array<T> to, const T *from)
{
    static_assert(N * sizeof(T) == 4 || N * sizeof(T) == 8 || N * sizeof(T) == 16, "what the device copies at once");
    sim_shared_copy_async(to.byte_of(0, N), from, N * sizeof(T));
}

template <class Use, class Layout>
static inline void load_tile(nvcuda::wmma::fragment<Use, 16, 16, 16, __nv_bfloat16, Layout> &tile,
                             shared_array<__nv_bfloat16> from, unsigned ld, sim_place place = sim_place::here())
{
    sim_tile_access("load_tile", from.byte_of(0, 1), ld, sizeof(__nv_bfloat16), place);
    nvcuda::wmma::sim_load(tile, from, ld, nvcuda::wmma::sim_by_rows<Layout>());
}

static inline void load_tile(nvcuda::wmma::tile_sum &tile, shared_array<float> from, unsigned ld,
                             sim_place place = sim_place::here())
{
    sim_tile_access("load_tile", from.byte_of(0, 1), ld, sizeof(float), place);
    nvcuda::wmma::sim_load(tile, from, ld, true);
}

static inline void store_tile(shared_array<float> to, const nvcuda::wmma::tile_sum &tile, unsigned ld,
                              sim_place place = sim_place::here())
{
    sim_tile_access("store_tile", to.byte_of(0, 1), ld, sizeof(float), place);
    nvcuda::wmma::sim_store(to, tile, ld, true);
}

/* The first of a launch's arguments as they are spelt, and where the launch is: "NAME (FILE:LINE)". Stays. */
const char *sim_kernel_name(const char *arguments, const char *file, int line);

/* `allow`: device.cuh's allow_shared(). */
template <class... P, class... A>
static cudaError_t sim_launch(const char *name, cudaError_t (*allow)(const void *), void (*kernel)(P...), dim3 grid,
                              dim3 block, size_t shared_bytes, cudaStream_t stream, A... a)
{
    const void *const function = reinterpret_cast<const void *>(kernel);
    cudaError_t e = shared_bytes > SIM_SHARED_WITHOUT_ASKING ? allow(function) : cudaSuccess;
    if (e == cudaSuccess)
        e = sim_check_launch(grid, block, shared_bytes);
    if (e == cudaSuccess)
        e = sim_check_shared(function, shared_bytes);
    if (e != cudaSuccess)
        return e;
    const std::tuple<P...> arguments{P(a)...};
    return sim_enqueue(stream, name,
                       [=] { sim_run_grid(name, grid, block, shared_bytes, [&] { std::apply(kernel, arguments); }); });
}

#define launch(...) sim_launch(sim_kernel_name(#__VA_ARGS__, __FILE__, __LINE__), allow_shared, __VA_ARGS__)

#endif

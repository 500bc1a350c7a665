/* sim_memory.cpp - device memory, pinned memory, copies and fills.
 *
 * A block of device memory lies at the end of pages of its own, between two that are never open: what runs over the end
 * by more than the alignment leaves is a segmentation fault. The few bytes up to there, and those before the block, are
 * out of bounds for the address sanitizer; without it they hold a pattern that is looked at after every operation.
 */
#include <cstdlib>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#include "sim_asan.h"
#include "sim_runtime.h"

#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace sim
{

enum { ALIGNMENT = 256, NEW_MEMORY = 0xff /* NaN as f32 and as bf16, -1 as an integer */ };

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

#ifdef SIM_ASAN
static void mark_surroundings(const block &b)
{
    ASAN_POISON_MEMORY_REGION(b.pages, b.page_bytes);
    ASAN_UNPOISON_MEMORY_REGION(b.at, b.bytes);
}
static void unmark_surroundings(const block &b) { ASAN_UNPOISON_MEMORY_REGION(b.pages, b.page_bytes); }
bool surroundings_are_intact() { return true; }
#else
enum { PATTERN = 0xa5 };
static void mark_surroundings(const block &b)
{
    memset(b.pages, PATTERN, (size_t)(b.at - b.pages));
    memset(b.at + b.bytes, PATTERN, (size_t)(b.pages + b.page_bytes - b.at) - b.bytes);
}
static void unmark_surroundings(const block &) {}

static bool is_pattern(const char *p, const char *end)
{
    for (; p < end; p++)
        if ((unsigned char)*p != PATTERN)
            return false;
    return true;
}

bool surroundings_are_intact()
{
    const machine &m = the_machine();
    for (const auto &entry : m.blocks) {
        const block &b = entry.second;
        if (b.device == m.opened && !(is_pattern(b.pages, b.at) && is_pattern(b.at + b.bytes, b.pages + b.page_bytes)))
            return false;
    }
    return true;
}
#endif

static void set_access(const block &b, bool open)
{
    if (mprotect(b.pages, b.page_bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE))
        abort();
}

void open_device(int device)
{
    machine &m = the_machine();
    if (m.opened == device)
        return;
    for (const auto &entry : m.blocks) {
        const block &b = entry.second;
        if (b.device == m.opened || b.device == device)
            set_access(b, b.device == device);
    }
    m.opened = device;
}

static bool new_block(int device, size_t bytes, block *out)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), taken = round_up(bytes, ALIGNMENT);
    const size_t page_bytes = round_up(taken, page);
    void *map = mmap(nullptr, page_bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return false;
    char *pages = static_cast<char *>(map) + page;
    madvise(map, page_bytes + 2 * page, MADV_HUGEPAGE); /* opening and closing costs by the page */
    *out = {device, pages + page_bytes - taken, bytes, pages, page_bytes};
    set_access(*out, true);
    mark_surroundings(*out);
    memset(out->at, NEW_MEMORY, bytes);
    set_access(*out, the_machine().opened == device);
    return true;
}

static void unmap(const block &b)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unmark_surroundings(b);
    munmap(b.pages - page, b.page_bytes + 2 * page);
}

void free_memory_of(int device)
{
    machine &m = the_machine();
    for (auto entry = m.blocks.begin(); entry != m.blocks.end();) {
        const block b = entry->second;
        if (b.device != device) {
            ++entry;
            continue;
        }
        unmap(b);
        m.devices[(size_t)device].used -= round_up(b.bytes, ALIGNMENT);
        entry = m.blocks.erase(entry);
    }
}

void free_all_memory(machine &m)
{
    for (const auto &entry : m.blocks)
        unmap(entry.second);
    for (const auto &entry : m.pinned)
        free(entry.first);
}

const block *block_of(const void *at, size_t bytes)
{
    const auto &blocks = the_machine().blocks;
    char *p = static_cast<char *>(const_cast<void *>(at));
    auto after = blocks.upper_bound(p);
    if (after == blocks.begin())
        return nullptr;
    const block &b = (--after)->second;
    return (size_t)(p - b.at) <= b.bytes && bytes <= b.bytes - (size_t)(p - b.at) ? &b : nullptr;
}

/* How host memory is seen: pinned if all of it is. */
enum class host { pinned, pageable, neither };

static host host_memory(const void *at, size_t bytes)
{
    const machine &m = the_machine();
    char *p = static_cast<char *>(const_cast<void *>(at));
    auto overlaps = [&](char *begin, size_t n) { return p < begin + n && begin < p + bytes; };
    for (const auto &entry : m.blocks)
        if (overlaps(entry.second.pages, entry.second.page_bytes))
            return host::neither;
    for (const auto &entry : m.pinned)
        if (overlaps(entry.first, entry.second))
            return p >= entry.first && bytes <= entry.second - (size_t)(p - entry.first) ? host::pinned : host::neither;
    return p ? host::pageable : host::neither;
}

/* A copy as it was asked for, checked. */
struct transfer {
    char *to;
    const char *from;
    size_t bytes;
    cudaMemcpyKind kind;
    int device;
    host host_side;

    const void *host_end() const { return kind == cudaMemcpyHostToDevice ? static_cast<const void *>(from) : to; }

    /* Also when it runs: what was there may be gone. */
    bool is_there() const
    {
        if (kind != cudaMemcpyHostToDevice && !on_device(from))
            return false;
        if (kind != cudaMemcpyDeviceToHost && !on_device(to))
            return false;
        return kind == cudaMemcpyDeviceToDevice || host_memory(host_end(), bytes) == host_side;
    }

  private:
    bool on_device(const void *at) const
    {
        const block *b = block_of(at, bytes);
        return b && b->device == device;
    }
};

static cudaError_t check_transfer(const char *name, int device, void *dst, const void *src, size_t count,
                                  cudaMemcpyKind kind, transfer *out)
{
    if (kind != cudaMemcpyHostToDevice && kind != cudaMemcpyDeviceToHost && kind != cudaMemcpyDeviceToDevice)
        return misuse(cudaErrorInvalidMemcpyDirection, "%s: kind %d", name, (int)kind);
    *out = {static_cast<char *>(dst), static_cast<const char *>(src), count, kind, device, host::neither};
    if (kind != cudaMemcpyDeviceToDevice) {
        out->host_side = host_memory(out->host_end(), count);
        if (out->host_side == host::neither)
            return misuse(cudaErrorInvalidValue, "%s: %p, %zu bytes, is not host memory, or only partly pinned", name,
                          out->host_end(), count);
    }
    if (!out->is_there())
        return misuse(cudaErrorInvalidValue, "%s: from %p to %p, %zu bytes: not a block of device %d", name, src, dst,
                      count, device);
    return cudaSuccess;
}

static void count_bytes(CUstream_st *s, cudaMemcpyKind kind, size_t bytes)
{
    sim_counts &c = the_machine().counts;
    (kind == cudaMemcpyHostToDevice   ? c.bytes_to_device
     : kind == cudaMemcpyDeviceToHost ? c.bytes_to_host
                                      : c.bytes_on_device) += (int64_t)bytes;
    s->bytes_copied += (int64_t)bytes;
}

static cudaError_t put_transfer(const char *name, CUstream_st *s, const transfer &t)
{
    std::shared_ptr<std::vector<char>> staged;
    if (t.host_side == host::pageable) {
        if (s->capturing)
            return misuse(spoil(s, cudaErrorStreamCaptureUnsupported), "%s: pageable memory in a capture", name);
        the_machine().counts.pageable_copies++;
        if (t.kind == cudaMemcpyHostToDevice)
            staged = std::make_shared<std::vector<char>>(t.from, t.from + t.bytes);
    }
    return put(s, {name, [name, s, t, staged] {
                       if (!(staged ? block_of(t.to, t.bytes) != nullptr : t.is_there()))
                           return misuse(cudaErrorIllegalAddress,
                                         "%s: from %p to %p, %zu bytes: freed before the copy ran", name,
                                         static_cast<const void *>(t.from), static_cast<void *>(t.to), t.bytes);
                       memmove(t.to, staged ? staged->data() : t.from, t.bytes);
                       count_bytes(s, t.kind, t.bytes);
                       return cudaSuccess;
                   }});
}

static cudaError_t put_fill(const char *name, CUstream_st *s, void *at, int value, size_t bytes)
{
    const block *b = block_of(at, bytes);
    if (!b || b->device != s->device)
        return misuse(cudaErrorInvalidValue, "%s: %p, %zu bytes, is not in a block of device %d", name, at, bytes,
                      s->device);
    return put(s, {name, [name, at, value, bytes] {
                       if (!block_of(at, bytes))
                           return misuse(cudaErrorIllegalAddress, "%s: %p: freed before it was filled", name, at);
                       memset(at, value, bytes);
                       return cudaSuccess;
                   }});
}

} // namespace sim

using namespace sim;

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    return call("cudaMemGetInfo", PLAIN, [&] {
        const machine &m = the_machine();
        *total = (size_t)m.memory_bytes;
        *free = (size_t)(m.memory_bytes - m.devices[(size_t)current_device()].used);
        return cudaSuccess;
    });
}

cudaError_t cudaMalloc(void **devPtr, size_t size)
{
    return call("cudaMalloc", UNSAFE, [&] {
        machine &m = the_machine();
        device &d = m.devices[(size_t)current_device()];
        *devPtr = nullptr;
        if (!size)
            return misuse(cudaErrorInvalidValue, "cudaMalloc: no bytes");
        if (size > m.memory_bytes - d.used || round_up(size, ALIGNMENT) > m.memory_bytes - d.used)
            return cudaErrorMemoryAllocation;
        block b;
        if (!new_block(current_device(), size, &b))
            return cudaErrorMemoryAllocation;
        d.used += round_up(size, ALIGNMENT);
        m.blocks[b.at] = b;
        *devPtr = b.at;
        return cudaSuccess;
    });
}

cudaError_t cudaFree(void *devPtr)
{
    return call("cudaFree", UNSAFE | RELEASES, [&] {
        if (!devPtr)
            return cudaSuccess;
        machine &m = the_machine();
        const auto found = m.blocks.find(static_cast<char *>(devPtr));
        if (found == m.blocks.end())
            return misuse(cudaErrorInvalidValue, "cudaFree: %p is not a block", devPtr);
        const block b = found->second;
        if (!is_idle(b.device))
            misuse(cudaSuccess, "cudaFree: device %d has work to do, and CUDA does not promise to wait", b.device);
        const cudaError_t code = finish_device(b.device);
        m.blocks.erase(b.at);
        m.devices[(size_t)b.device].used -= round_up(b.bytes, ALIGNMENT);
        unmap(b);
        return code;
    });
}

static cudaError_t new_pinned(const char *name, void **out, size_t bytes)
{
    return call(name, UNSAFE, [&] {
        *out = nullptr;
        if (!bytes)
            return misuse(cudaErrorInvalidValue, "%s: no bytes", name);
        if (posix_memalign(out, ALIGNMENT, bytes))
            return cudaErrorMemoryAllocation;
        memset(*out, NEW_MEMORY, bytes);
        the_machine().pinned[static_cast<char *>(*out)] = bytes;
        return cudaSuccess;
    });
}

cudaError_t cudaMallocHost(void **ptr, size_t size) { return new_pinned("cudaMallocHost", ptr, size); }

/* Flags say how the memory is mapped, which makes no difference here. */
cudaError_t cudaHostAlloc(void **pHost, size_t size, unsigned int flags)
{
    (void)flags;
    return new_pinned("cudaHostAlloc", pHost, size);
}

/* Does not wait: a copy that has yet to run finds its memory gone, and says so. */
cudaError_t cudaFreeHost(void *ptr)
{
    return call("cudaFreeHost", UNSAFE | RELEASES, [&] {
        if (!ptr)
            return cudaSuccess;
        if (!the_machine().pinned.erase(static_cast<char *>(ptr)))
            return misuse(cudaErrorInvalidValue, "cudaFreeHost: %p is not pinned memory", ptr);
        free(ptr);
        return cudaSuccess;
    });
}

cudaError_t cudaMemset(void *devPtr, int value, size_t count)
{
    return call("cudaMemset", UNSAFE, [&] {
        return put_fill("cudaMemset", the_machine().null_streams[(size_t)current_device()].get(), devPtr, value, count);
    });
}

cudaError_t cudaMemsetAsync(void *devPtr, int value, size_t count, cudaStream_t stream)
{
    return call("cudaMemsetAsync", PLAIN, [&] {
        CUstream_st *s;
        const cudaError_t code = find_current_stream("cudaMemsetAsync", stream, &s);
        return code == cudaSuccess ? put_fill("cudaMemsetAsync", s, devPtr, value, count) : code;
    });
}

/* On the null stream, which waits for no other and which no other waits for. */
cudaError_t cudaMemcpy(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind)
{
    return call("cudaMemcpy", UNSAFE, [&] {
        CUstream_st *s = the_machine().null_streams[(size_t)current_device()].get();
        transfer t;
        cudaError_t code = check_transfer("cudaMemcpy", s->device, dst, src, count, kind, &t);
        if (code == cudaSuccess)
            code = put_transfer("cudaMemcpy", s, t);
        return code == cudaSuccess && kind != cudaMemcpyDeviceToDevice ? finish_stream(s) : code;
    });
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    return call("cudaMemcpyAsync", PLAIN, [&] {
        CUstream_st *s;
        transfer t;
        cudaError_t code = find_stream("cudaMemcpyAsync", stream, &s);
        if (code != cudaSuccess || !count)
            return code;
        code = check_transfer("cudaMemcpyAsync", s->device, dst, src, count, kind, &t);
        if (code == cudaSuccess)
            code = put_transfer("cudaMemcpyAsync", s, t);
        if (code == cudaSuccess && kind == cudaMemcpyDeviceToHost && t.host_side == host::pageable)
            code = finish_stream(s);
        return code;
    });
}

/* sim_shared.cpp - the shared memory of the running block, and what is known of it: of each two bytes, who wrote and
 * who read them last, and when. Two threads may touch the same bytes, one of them writing, only with a barrier in
 * between: one of the block, or one of the warp that both are in.
 */
#include "sim_engine.h"
#include "sim_kernel.h"

#include <string.h>
#include <vector>

enum { CELL = 2, LANES = 32 };

enum readers : uint8_t { ONE, SOME_OF_A_WARP, SOME_OF_SEVERAL_WARPS };

struct cell {
    uint32_t written, written_warp; /* block time and warp time of the last write; 0: never in this grid */
    uint32_t read, read_warp;       /* of the last read */
    int16_t writer, reader;
    readers who;  /* read at the block time `read`; within a warp only those at read_warp count */
    bool awaited; /* a copy is under way */
};

struct async_copy {
    size_t at;
    const void *from;
    size_t bytes, group;
};

struct thread_copies {
    std::vector<async_copy> copies;
    size_t committed; /* groups */
};

struct shared {
    std::vector<unsigned char> bytes;
    std::vector<cell> cells;
    std::vector<thread_copies> copies; /* a thread */
    uint32_t block_began;
};
static thread_local shared own_memory;
static __thread shared *memory; /* the same: kernels are spared a look at whether it is made already */

void sim_shared_begin_grid(size_t bytes)
{
    memory = &own_memory;
    memory->bytes.assign(bytes, 0);
    memory->cells.assign((bytes + CELL - 1) / CELL, cell());
}

void sim_shared_begin_block(int threads, uint32_t time)
{
    memory->block_began = time;
    memory->copies.resize((size_t)threads);
    for (thread_copies &c : memory->copies) {
        c.copies.clear();
        c.committed = 0;
    }
}

void sim_shared_take(size_t at, size_t bytes, size_t alignment)
{
    if (at % alignment)
        sim_fault("takes shared memory from byte %zu on for elements aligned to %zu", at, alignment);
    if (at > memory->bytes.size() || bytes > memory->bytes.size() - at)
        sim_fault("takes %zu bytes of shared memory from byte %zu on; the launch asked for %zu", bytes, at,
                  memory->bytes.size());
}

void sim_shared_outside(int64_t i, int64_t n, size_t element_bytes)
{
    sim_fault("touches element %lld of an array of %lld in shared memory (%zu bytes each)", (long long)i, (long long)n,
              element_bytes);
}

static bool same_warp(int a, int b) { return a / LANES == b / LANES; }

static void check_awaited(const cell &c, size_t at, const char *verb)
{
    if (c.awaited)
        sim_fault("%s byte %zu of shared memory while a copy to it is under way", verb, at);
}

static void check_last_write(const cell &c, size_t at, const char *verb)
{
    if (c.written != sim_now.block_time || c.writer == sim_now.thread)
        return;
    if (!same_warp(c.writer, sim_now.thread) || c.written_warp == *sim_now.warp_time)
        sim_fault("%s byte %zu of shared memory, which thread %s wrote with no barrier in between", verb, at,
                  sim_thread_name(c.writer));
}

static void check_last_reads(const cell &c, size_t at)
{
    if (c.read != sim_now.block_time)
        return;
    bool race = true;
    if (c.who != SOME_OF_SEVERAL_WARPS && same_warp(c.reader, sim_now.thread))
        race = c.read_warp == *sim_now.warp_time && (c.who == SOME_OF_A_WARP || c.reader != sim_now.thread);
    if (race && c.reader != sim_now.thread)
        sim_fault("writes byte %zu of shared memory, which thread %s read with no barrier in between", at,
                  sim_thread_name(c.reader));
    if (race)
        sim_fault("writes byte %zu of shared memory, which other threads read with no barrier in between", at);
}

static void note_read(cell &c)
{
    const uint32_t warp_time = *sim_now.warp_time;
    const int16_t me = (int16_t)sim_now.thread;
    if (c.read != sim_now.block_time) {
        c.read = sim_now.block_time;
        c.read_warp = warp_time;
        c.reader = me;
        c.who = ONE;
    } else if (!same_warp(c.reader, me)) {
        c.who = SOME_OF_SEVERAL_WARPS;
    } else if (c.who != SOME_OF_SEVERAL_WARPS && c.read_warp != warp_time) {
        c.read_warp = warp_time;
        c.reader = me;
        c.who = ONE;
    } else if (c.who == ONE && c.reader != me) {
        c.who = SOME_OF_A_WARP;
    }
}

static void note_write(cell &c)
{
    c.written = sim_now.block_time;
    c.written_warp = *sim_now.warp_time;
    c.writer = (int16_t)sim_now.thread;
}

void sim_shared_load(size_t at, void *to, size_t bytes)
{
    for (size_t b = at; b < at + bytes; b += CELL) {
        cell &c = memory->cells[b / CELL];
        check_awaited(c, b, "reads");
        if (c.written < memory->block_began)
            sim_fault("reads byte %zu of shared memory, which no thread of the block wrote", b);
        check_last_write(c, b, "reads");
        note_read(c);
    }
    memcpy(to, &memory->bytes[at], bytes);
}

static void check_store(size_t at, size_t bytes)
{
    for (size_t b = at; b < at + bytes; b += CELL) {
        const cell &c = memory->cells[b / CELL];
        check_awaited(c, b, "writes");
        check_last_write(c, b, "writes");
        check_last_reads(c, b);
    }
}

void sim_shared_store(size_t at, const void *from, size_t bytes)
{
    check_store(at, bytes);
    for (size_t b = at; b < at + bytes; b += CELL)
        note_write(memory->cells[b / CELL]);
    memcpy(&memory->bytes[at], from, bytes);
}

void sim_shared_copy_async(size_t at, const void *from, size_t bytes)
{
    if (at % bytes || (uintptr_t)from % bytes)
        sim_fault("copies %zu bytes from address %p to byte %zu of shared memory, and one is no multiple of that",
                  bytes, from, at);
    check_store(at, bytes);
    for (size_t b = at; b < at + bytes; b += CELL)
        memory->cells[b / CELL].awaited = true;
    thread_copies &mine = memory->copies[(size_t)sim_now.thread];
    mine.copies.push_back({at, from, bytes, mine.committed});
}

void __pipeline_commit() { memory->copies[(size_t)sim_now.thread].committed++; }

void __pipeline_wait_prior(size_t groups)
{
    thread_copies &mine = memory->copies[(size_t)sim_now.thread];
    size_t done = 0;
    for (; done < mine.copies.size() && mine.copies[done].group + groups < mine.committed; done++) {
        const async_copy &copy = mine.copies[done];
        for (size_t b = copy.at; b < copy.at + copy.bytes; b += CELL)
            memory->cells[b / CELL].awaited = false;
        sim_shared_store(copy.at, copy.from, copy.bytes);
    }
    mine.copies.erase(mine.copies.begin(), mine.copies.begin() + (ptrdiff_t)done);
}

void sim_shared_end_thread()
{
    const thread_copies &mine = memory->copies[(size_t)sim_now.thread];
    if (!mine.copies.empty())
        sim_fault("returns while copies to shared memory are under way");
}

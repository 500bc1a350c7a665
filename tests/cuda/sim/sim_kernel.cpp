/* sim_kernel.cpp - runs grids: block after block, the threads of a block as fibers that hand over where they wait for
 * each other. Which block, and which thread of those that can go on, is drawn.
 */
#include "sim_kernel.h"
#include "sim_engine.h"
#include "sim_fault.h"
#include "sim_fiber.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <vector>

enum { LANES = 32, MAX_THREADS = 1024 };
static const unsigned ALL_LANES = 0xffffffffu;

/* A switch comes back into calls that another thread made, so the processor guesses each return up to the kernel wrong.
 * Hence few of them: what leads to a switch is one function. */
#define AT_ONCE inline __attribute__((always_inline))

namespace
{
enum state { READY, WAITS_FOR_BLOCK, WAITS_FOR_WARP, RETURNED };

struct thread {
    sim_thread_indices indices;
    sim_fiber fiber;
    int number;
    enum state state;
    const char *call; /* that it waits in */
    sim_place place;
};

struct warp {
    uint32_t time;
    int arrived;
    int first; /* thread to arrive */
    void *record[LANES];
};

struct barrier {
    int arrived, first;
    int holds; /* predicates of those who arrived */
    int result;
};

struct engine {
    sim_fiber main;
    std::vector<std::unique_ptr<thread>> threads; /* as many as the largest block so far; each keeps its stack */
    std::vector<warp> warps;
    std::vector<int> ready;
    struct barrier barrier;
    thread *running;
    int block_threads, returned;
    bool abandoned;
    uint32_t time;

    const char *kernel;
    const std::function<void()> *body;

    uint64_t shuffles_seen, random;
    ~engine();
};
} // namespace

static thread_local engine the_engine;
static __thread engine *active; /* the same while it runs: kernels are spared a look at whether it is made already */
__thread const sim_thread_indices *sim_indices;
__thread sim_moment sim_now;
__thread uint64_t sim_tile_key;

static std::atomic<sim_fault_handler *> on_fault;
static std::atomic<uint64_t> shuffle_seed{1}, shuffles{1}; /* and how often it was set */

engine::~engine()
{
    for (std::unique_ptr<thread> &t : threads)
        sim_fiber_free(&t->fiber);
}

/* Random numbers: SplitMix64. */
static uint64_t mixed(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static AT_ONCE size_t draw(size_t below)
{
    active->random += 0x9e3779b97f4a7c15u;
    return (size_t)((mixed(active->random) >> 32) * below >> 32); /* division would take longer than all else */
}

void sim_shuffle(uint64_t seed)
{
    shuffle_seed = seed;
    shuffles++;
}

static void seed_grid(engine *e)
{
    if (e->shuffles_seen != shuffles) {
        e->shuffles_seen = shuffles;
        e->random = mixed(shuffle_seed + 0x9e3779b97f4a7c15u); /* 0 alone would be mixed to 0 */
        sim_tile_key = mixed(e->random);
    }
}

/* Faults. */

void sim_on_fault(sim_fault_handler *handler) { on_fault = handler; }

static std::string indices_text(uint3 i)
{
    return "(" + std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z) + ")";
}

static uint3 indices_of(int number, dim3 size)
{
    const unsigned i = (unsigned)number;
    return {i % size.x, i / size.x % size.y, i / size.x / size.y};
}

const char *sim_thread_name(int number)
{
    static thread_local std::string names[4];
    static thread_local unsigned turn;
    std::string &name = names[turn++ % 4];
    name = indices_text(active->threads[(size_t)number]->indices.thread);
    return name.c_str();
}

static void report(const std::string &who, const std::string &what)
{
    const std::string line = who + ": " + what;
    sim_fault_handler *handler = on_fault;
    if (handler) {
        handler(line.c_str());
        return;
    }
    fprintf(stderr, "%s\n", line.c_str());
    abort();
}

static void report_thread(const thread &t, const std::string &what)
{
    engine *e = active;
    report(std::string("kernel ") + e->kernel + ", block " + indices_text(t.indices.block) + ", thread " +
               indices_text(t.indices.thread),
           what);
    e->abandoned = true;
}

void sim_fault(const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    engine *e = active;
    report_thread(*e->running, text);
    sim_fiber_switch(&e->running->fiber, &e->main);
    abort(); /* nobody goes back to an abandoned thread */
}

/* Lasts until the fourth call from now. No string: who waits for others may be abandoned, and frees nothing then. */
static const char *placed(const char *call, sim_place place)
{
    static thread_local char texts[4][200];
    static thread_local unsigned turn;
    char *text = texts[turn++ % 4];
    snprintf(text, sizeof texts[0], "%s at %s:%d", call, place.file, place.line);
    return text;
}

/* Scheduling. */

static AT_ONCE void turn_to(engine *e, thread *next)
{
    e->running = next;
    sim_indices = &next->indices;
    sim_now = {next->number, e->time, &e->warps[(size_t)next->number / LANES].time};
}

/* Hands over to a thread that can go on, drawn; to the main fiber where there is none. */
static AT_ONCE void hand_over(engine *e, sim_fiber *from)
{
    if (e->ready.empty()) {
        sim_fiber_switch(from, &e->main);
        return;
    }
    std::swap(e->ready[draw(e->ready.size())], e->ready.back());
    thread *next = e->threads[(size_t)e->ready.back()].get();
    e->ready.pop_back();
    turn_to(e, next);
    sim_fiber_switch(from, &next->fiber);
}

static AT_ONCE void wait_in(engine *e, enum state state, const char *call, sim_place place)
{
    thread *t = e->running;
    t->state = state;
    t->call = call;
    t->place = place;
    hand_over(e, &t->fiber);
}

static void release(engine *e, thread *t)
{
    t->state = READY;
    e->ready.push_back(t->number);
}

static void live()
{
    engine *e = active;
    thread *t = e->running;
    sim_fiber_entered(&t->fiber);
    for (;;) {
        (*e->body)();
        sim_shared_end_thread();
        t->state = RETURNED;
        e->returned++;
        hand_over(e, &t->fiber);
    }
}

/* All that meet must be at the same place in the source. */
static void check_same_place(const engine *e, int first, const char *call, sim_place place)
{
    const thread &other = *e->threads[(size_t)first];
    const bool same_file = other.place.file == place.file || !strcmp(other.place.file, place.file);
    const bool same_call = other.call == call || !strcmp(other.call, call);
    if (other.place.line != place.line || !same_file || !same_call)
        sim_fault("comes to %s while thread %s waits in %s", placed(call, place), sim_thread_name(first),
                  placed(other.call, other.place));
}

int sim_barrier(const char *what, int predicate, sim_place place)
{
    engine *e = active;
    struct barrier *b = &e->barrier;
    if (b->arrived > 0)
        check_same_place(e, b->first, what, place);
    else
        b->first = e->running->number;
    b->holds += predicate != 0;
    if (++b->arrived < e->block_threads) {
        wait_in(e, WAITS_FOR_BLOCK, what, place);
        return b->result;
    }
    b->result = b->holds;
    b->arrived = b->holds = 0;
    sim_now.block_time = ++e->time;
    for (int i = 0; i < e->block_threads; i++)
        if (i != e->running->number)
            release(e, e->threads[(size_t)i].get());
    return b->result;
}

/* Meets the other lanes. True for the last to come, who then lets the others go on. */
static AT_ONCE bool meet_warp(engine *e, const char *what, unsigned mask, void *record, sim_place place)
{
    if (e->block_threads % LANES)
        sim_fault("comes to %s in a block of %d threads, which is no number of whole warps", placed(what, place),
                  e->block_threads);
    if (mask != ALL_LANES)
        sim_fault("comes to %s for the lanes 0x%08x only", placed(what, place), mask);
    const int number = e->running->number;
    warp *w = &e->warps[(size_t)number / LANES];
    if (w->arrived > 0)
        check_same_place(e, w->first, what, place);
    else
        w->first = number;
    w->record[number % LANES] = record;
    if (++w->arrived < LANES) {
        wait_in(e, WAITS_FOR_WARP, what, place);
        return false;
    }
    w->arrived = 0;
    return true;
}

static void release_warp(engine *e)
{
    const int number = e->running->number, lane0 = number - number % LANES;
    for (int i = lane0; i < lane0 + LANES; i++)
        if (i != number)
            release(e, e->threads[(size_t)i].get());
}

void sim_warp(const char *what, unsigned mask, void *record, void (*all)(void *const lane[LANES]), sim_place place)
{
    engine *e = active;
    if (!meet_warp(e, what, mask, record, place))
        return;
    all(e->warps[(size_t)e->running->number / LANES].record);
    release_warp(e);
}

void sim_warp_barrier(const char *what, unsigned mask, sim_place place)
{
    engine *e = active;
    if (!meet_warp(e, what, mask, nullptr, place))
        return;
    e->warps[(size_t)e->running->number / LANES].time++;
    release_warp(e);
}

namespace
{
struct vote {
    int predicate;
    unsigned lanes;
};
} // namespace

static void count_votes(void *const lane[LANES])
{
    unsigned lanes = 0;
    for (int i = 0; i < LANES; i++)
        lanes |= (unsigned)(static_cast<vote *>(lane[i])->predicate != 0) << i;
    for (int i = 0; i < LANES; i++)
        static_cast<vote *>(lane[i])->lanes = lanes;
}

unsigned sim_vote(const char *what, unsigned mask, int predicate, sim_place place)
{
    vote v = {predicate, 0};
    sim_warp(what, mask, &v, count_votes, place);
    return v.lanes;
}

/* Grids. */

static const thread *first_of(const engine *e, int begin, int end, enum state state, bool is)
{
    for (int i = begin; i < end; i++)
        if ((e->threads[(size_t)i]->state == state) == is)
            return e->threads[(size_t)i].get();
    return nullptr;
}

/* Nothing can go on, and not all have returned: somebody waits for somebody who will not come. */
static void report_absent(engine *e)
{
    enum state state = WAITS_FOR_WARP;
    int begin = 0, end = e->block_threads;
    const thread *waits = first_of(e, begin, end, state, true);
    if (waits) {
        begin = waits->number - waits->number % LANES;
        end = begin + LANES;
    } else {
        state = WAITS_FOR_BLOCK;
        waits = first_of(e, begin, end, state, true);
    }
    const thread *absent = first_of(e, begin, end, state, false);
    const std::string does =
        absent->state == RETURNED ? "has returned" : std::string("waits in ") + placed(absent->call, absent->place);
    report_thread(*absent, does + ", and thread " + sim_thread_name(waits->number) + " waits for it in " +
                               placed(waits->call, waits->place));
}

static void run_block(engine *e, uint3 block)
{
    e->time++;
    e->barrier = {};
    e->warps.assign((size_t)(e->block_threads + LANES - 1) / LANES, warp());
    e->returned = 0;
    e->ready.clear();
    for (int i = 0; i < e->block_threads; i++) {
        thread *t = e->threads[(size_t)i].get();
        t->indices.block = block;
        release(e, t);
    }
    sim_shared_begin_block(e->block_threads, e->time);
    hand_over(e, &e->main);
    e->running = nullptr;
    sim_indices = nullptr;
    if (!e->abandoned && e->returned < e->block_threads)
        report_absent(e);
}

static void have_threads(engine *e, dim3 grid, dim3 block)
{
    while (e->threads.size() < (size_t)e->block_threads) {
        std::unique_ptr<thread> t(new thread());
        if (!sim_fiber_new(&t->fiber, live)) {
            fprintf(stderr, "no memory for the stack of a simulated thread\n");
            abort();
        }
        t->number = (int)e->threads.size();
        e->threads.push_back(std::move(t));
    }
    for (int i = 0; i < e->block_threads; i++)
        e->threads[(size_t)i]->indices = {indices_of(i, block), {}, block, grid};
}

cudaError_t sim_check_launch(dim3 grid, dim3 block, size_t shared_bytes)
{
    const bool block_good = block.x && block.y && block.z && block.x <= MAX_THREADS && block.y <= MAX_THREADS &&
                            block.z <= 64 && (uint64_t)block.x * block.y * block.z <= MAX_THREADS;
    const bool grid_good = grid.x && grid.y && grid.z && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535;
    if (!block_good || !grid_good)
        return cudaErrorInvalidConfiguration;
    return shared_bytes <= (227 << 10) ? cudaSuccess : cudaErrorInvalidValue; /* the most that any device has */
}

void sim_run_grid(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread)
{
    engine *e = active = &the_engine;
    e->kernel = kernel;
    e->body = &thread;
    e->block_threads = (int)(block.x * block.y * block.z);
    e->time = 0;
    e->abandoned = false;
    sim_fiber_adopt(&e->main);
    seed_grid(e);
    have_threads(e, grid, block);
    sim_shared_begin_grid(shared_bytes);

    std::vector<uint64_t> order((size_t)grid.x * grid.y * grid.z);
    for (size_t i = 0; i < order.size(); i++) {
        order[i] = i;
        std::swap(order[i], order[draw(i + 1)]);
    }
    for (size_t i = 0; i < order.size() && !e->abandoned; i++) {
        const uint64_t b = order[i];
        run_block(e, {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y)});
    }
    if (e->abandoned)
        for (int i = 0; i < e->block_threads; i++)
            sim_fiber_restart(&e->threads[(size_t)i]->fiber, live);
}

const char *sim_kernel_name(const char *arguments, const char *file, int line)
{
    size_t n = 0;
    for (int depth = 0; arguments[n] && (arguments[n] != ',' || depth > 0); n++)
        depth += (arguments[n] == '<') - (arguments[n] == '>');
    const char *slash = strrchr(file, '/');
    static std::mutex lock;
    static std::set<std::string> names;
    const std::lock_guard<std::mutex> hold(lock);
    return names
        .insert(std::string(arguments, n) + " (" + (slash ? slash + 1 : file) + ":" + std::to_string(line) + ")")
        .first->c_str();
}

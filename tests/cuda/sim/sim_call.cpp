/* sim_call.cpp - how a call begins and ends, and what tests plan and ask. */
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "sim_lt.h"
#include "sim_runtime.h"

namespace sim
{

static int64_t number_from(const char *name, int64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoll(text, nullptr, 0) : otherwise;
}

/* ENTRY:NTH:CODE[,...] */
static void plan_failures(machine &m, const char *text)
{
    while (text && *text) {
        char entry[64];
        long long nth;
        int code, read = 0;
        if (sscanf(text, "%63[^:]:%lld:%d%n", entry, &nth, &code, &read) != 3) {
            fprintf(stderr, "sim: POLLARD_SIM_FAIL: '%s' is not ENTRY:NTH:CODE\n", text);
            abort();
        }
        const bool late = !strcmp(entry, "late");
        (late ? m.late_failures : m.failures).push_back({entry, nth, code});
        text += read;
        text += *text == ',';
    }
}

machine::machine()
{
    const int64_t n = number_from("POLLARD_SIM_DEVICES", 1);
    if (n == 0)
        absent = cudaErrorNoDevice;
    else if (n < 0)
        absent = cudaErrorInsufficientDriver;
    if (n < 0)
        driver_version = n == -1 ? 11040 : 0;
    memory_bytes = (uint64_t)number_from("POLLARD_SIM_MEMORY", (int64_t)4 << 30);
    arch = (int)number_from("POLLARD_SIM_ARCH", 80);
    compute_mode = (int)number_from("POLLARD_SIM_COMPUTE_MODE", cudaComputeModeDefault);
    random_state = (uint64_t)number_from("POLLARD_SIM_SEED", 1);
    const char *file = getenv("POLLARD_SIM_REPORT");
    report = file ? file : "";
    for (int64_t i = 0; i < n; i++) {
        devices.emplace_back();
        null_streams.emplace_back(new CUstream_st((int)i, -1));
    }
    plan_failures(*this, getenv("POLLARD_SIM_FAIL"));
    sim_shuffle(random_state);
}

static int64_t leaks(const machine &m)
{
    return (int64_t)(m.blocks.size() + m.pinned.size() + m.streams.live.size() + m.events.live.size() +
                     m.graphs.live.size() + m.executables.live.size() + m.lt_handles.live.size() +
                     m.descriptions.live.size() + m.layouts.live.size() + m.preferences.live.size());
}

static void write_report(const machine &m)
{
    FILE *f = fopen(m.report.c_str(), "w");
    if (!f) {
        fprintf(stderr, "sim: POLLARD_SIM_REPORT: '%s' cannot be written\n", m.report.c_str());
        return;
    }
    const sim_counts &c = m.counts;
    const struct {
        const char *name;
        int64_t number;
    } lines[] = {{"waits", c.waits},
                 {"launches", c.launches},
                 {"graph_launches", c.graph_launches},
                 {"operations", c.operations},
                 {"bytes_to_device", c.bytes_to_device},
                 {"bytes_to_host", c.bytes_to_host},
                 {"bytes_on_device", c.bytes_on_device},
                 {"pageable_copies", c.pageable_copies},
                 {"misuses", c.misuses},
                 {"leaks", leaks(m)}};
    for (const auto &l : lines)
        fprintf(f, "%s %lld\n", l.name, (long long)l.number);
    for (const auto &entry : m.calls)
        fprintf(f, "%s %lld\n", entry.first.c_str(), (long long)entry.second);
    fclose(f);
}

machine::~machine()
{
    if (!report.empty())
        write_report(*this);
    free_all_memory(*this);
}

/* Static, so that its end, and with it the report, comes when the process or the library that holds it goes. */
static std::unique_ptr<machine> &holder()
{
    static std::unique_ptr<machine> held(new machine);
    return held;
}

machine &the_machine() { return *holder(); }

std::recursive_mutex &the_lock()
{
    static std::recursive_mutex lock;
    return lock;
}

int &current_device()
{
    static thread_local int device;
    return device;
}

static cudaError_t &last_error()
{
    static thread_local cudaError_t code;
    return code;
}

cudaError_t misuse(cudaError_t code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("sim: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    the_machine().counts.misuses++;
    return code;
}

/* The code of a failure that is due with this call; 0: none is. */
static int planned(std::vector<planned_failure> &plans, const std::string &entry_point)
{
    int code = 0;
    for (size_t i = 0; i < plans.size();) {
        if (plans[i].entry_point == entry_point && --plans[i].calls_left == 0) {
            code = plans[i].code;
            plans.erase(plans.begin() + (std::ptrdiff_t)i);
        } else {
            i++;
        }
    }
    return code;
}

/* Whether a capture forbids this thread what is unsafe; each one that does so is invalid from here on. */
static bool captures_forbid()
{
    bool forbidden = false;
    for (const auto &s : the_machine().streams.live) {
        capture *c = s->capturing.get();
        if (!c || c->mode == cudaStreamCaptureModeRelaxed)
            continue;
        if (c->mode == cudaStreamCaptureModeThreadLocal && c->thread != std::this_thread::get_id())
            continue;
        c->invalid = true;
        forbidden = true;
    }
    return forbidden;
}

admitted begin_call(const char *entry_point, unsigned kind)
{
    machine &m = the_machine();
    m.calls[entry_point]++;
    if (const int code = planned(m.failures, entry_point))
        return {admission::planned_failure, code};
    if (m.absent && !(kind & DRIVERLESS))
        return {admission::no_driver, m.absent};
    if (kind & UNSAFE && captures_forbid())
        return {admission::capturing, cudaErrorStreamCaptureUnsupported};
    if (!m.absent && !(kind & UNTROUBLED) && m.devices[(size_t)current_device()].sticky)
        return {admission::device_failed, m.devices[(size_t)current_device()].sticky};
    return {admission::granted, cudaSuccess};
}

cudaError_t end_call(cudaError_t code)
{
    if (code != cudaSuccess && code != cudaErrorNotReady)
        last_error() = code;
    return code;
}

/* SplitMix64: one word of state, every seed as good as the next. Steele, Lea and Flood 2014. */
uint64_t random_below(uint64_t n)
{
    uint64_t z = the_machine().random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % n;
}

cudaError_t late_failure_due() { return (cudaError_t)planned(the_machine().late_failures, "late"); }

} // namespace sim

using namespace sim;

cudaError_t cudaPeekAtLastError(void) { return last_error(); }

cudaError_t cudaGetLastError(void)
{
    const cudaError_t code = last_error();
    last_error() = cudaSuccess;
    return code;
}

void sim_restart(void)
{
    const std::lock_guard<std::recursive_mutex> lock(the_lock());
    holder().reset(); /* before the new one is made: it may write a report */
    holder().reset(new machine);
    current_device() = 0;
    last_error() = cudaSuccess;
}

void sim_seed(uint64_t seed)
{
    const std::lock_guard<std::recursive_mutex> lock(the_lock());
    the_machine().random_state = seed;
    sim_shuffle(seed);
}

void sim_fail(const char *entry_point, int64_t nth, int code)
{
    const std::lock_guard<std::recursive_mutex> lock(the_lock());
    the_machine().failures.push_back({entry_point, nth, code});
}

void sim_fail_late(int64_t nth, int code)
{
    const std::lock_guard<std::recursive_mutex> lock(the_lock());
    the_machine().late_failures.push_back({"late", nth, code});
}

int64_t sim_calls(const char *entry_point)
{
    const std::lock_guard<std::recursive_mutex> lock(the_lock());
    const auto found = the_machine().calls.find(entry_point);
    return found == the_machine().calls.end() ? 0 : found->second;
}

sim_counts sim_counted(void)
{
    const std::lock_guard<std::recursive_mutex> lock(the_lock());
    return the_machine().counts;
}

void sim_count_anew(void)
{
    const std::lock_guard<std::recursive_mutex> lock(the_lock());
    the_machine().counts = {};
    the_machine().calls.clear();
}

int64_t sim_copied_on(int device, int stream)
{
    const std::lock_guard<std::recursive_mutex> lock(the_lock());
    for (const auto *list : {&the_machine().streams.live, &the_machine().streams.released})
        for (const auto &s : *list)
            if (s->device == device && s->number == stream)
                return s->bytes_copied;
    return 0;
}

int64_t sim_leaks(void)
{
    const std::lock_guard<std::recursive_mutex> lock(the_lock());
    return leaks(the_machine());
}

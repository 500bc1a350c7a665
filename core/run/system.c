/* system.c - what the operating system says about memory and time. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "core/run/run.h"

/* First number of a small system file, or after `key` at the start of a line of it. */
static bool system_number(const char *path, const char *key, uint64_t *out)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    const size_t skip = strlen(key);
    unsigned long long n;
    char line[256];
    bool found = false;
    while (!found && fgets(line, sizeof line, f))
        found = !strncmp(line, key, skip) && sscanf(line + skip, " %llu", &n) == 1;
    fclose(f);
    if (found)
        *out = n;
    return found;
}

/* What a container's limit leaves. Cached files count as used there, and go when memory is asked for. */
static bool cgroup_left(uint64_t *left)
{
    uint64_t limit, used, active = 0, inactive = 0;
    if (!system_number("/sys/fs/cgroup/memory.max", "", &limit) ||
        !system_number("/sys/fs/cgroup/memory.current", "", &used))
        return false; /* no cgroup of version 2, or "max": no limit */
    system_number("/sys/fs/cgroup/memory.stat", "active_file ", &active);
    system_number("/sys/fs/cgroup/memory.stat", "inactive_file ", &inactive);
    const uint64_t cached = active + inactive;
    used -= cached < used ? cached : used;
    *left = limit > used ? limit - used : 0;
    return true;
}

uint64_t pol_memory_available(void)
{
    uint64_t kib, left, available = UINT64_MAX;
    if (system_number("/proc/meminfo", "MemAvailable:", &kib))
        available = kib * 1024;
    if (cgroup_left(&left) && left < available)
        available = left;
    return available;
}

uint64_t pol_memory_peak(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (uint64_t)u.ru_maxrss * 1024 : 0;
}

double pol_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

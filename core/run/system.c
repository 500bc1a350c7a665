/* system.c - what the operating system says about memory and time. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "core/run/run.h"

/* First number of a small system file, or after `key` in it. */
static bool system_number(const char *path, const char *key, unsigned long long *out)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    char line[256];
    bool found = false;
    while (!found && fgets(line, sizeof line, f)) {
        const char *at = key ? strstr(line, key) : line;
        found = at && sscanf(at + (key ? strlen(key) : 0), " %llu", out) == 1;
    }
    fclose(f);
    return found;
}

uint64_t pol_memory_available(void)
{
    unsigned long long kib, limit, used;
    uint64_t free_bytes = system_number("/proc/meminfo", "MemAvailable:", &kib) ? kib * 1024 : UINT64_MAX;
    if (system_number("/sys/fs/cgroup/memory.max", NULL, &limit) && system_number("/sys/fs/cgroup/memory.current", NULL, &used)) {
        const uint64_t left = limit > used ? limit - used : 0;
        free_bytes = left < free_bytes ? left : free_bytes;
    }
    return free_bytes;
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

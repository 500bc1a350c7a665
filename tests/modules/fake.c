/* fake.c - a module like the CUDA backend's: what it calls devices is the CPU backend, once more for each. So what
 * several devices do can be tried on every machine, with numbers that are known.
 *
 * FAKE_DEVICES   how many there are (3)
 * FAKE_ODD       the device of that index is of another kind
 * FAKE_SMALL     the device of that index has FAKE_MEMORY bytes of memory
 * FAKE_HOST      their memory is the host's
 * FAKE_METRIC    the device of that index fails when it is asked for statistics of activations
 * FAKE_BROKEN    the device of that index fails in its FAKE_PASS-th forward pass
 * FAKE_KILLS     what fails there is the whole process
 * FAKE_MOMENT    its call for second moments that fails, on the device of index FAKE_BROKEN
 * FAKE_UNSOLVED  the devices solve nothing
 * FAKE_SLOW      products of the device of that index take 2 ms more
 * FAKE_FAR       copies to the device of that index that run beside computing take 20 ms more
 * FAKE_ILL       there is no telling what devices there are
 *
 * A pass finds no more memory in use than was reserved, else it fails.
 *
 * FAKE_ABI, FAKE_OPS_SIZE and FAKE_VERSION make it one of another build.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "backends/module.h"
#include "pollard/version.h"

#if !defined(FAKE_ABI)
#define FAKE_ABI POL_OPS_ABI
#endif
#if !defined(FAKE_OPS_SIZE)
#define FAKE_OPS_SIZE sizeof(pol_ops)
#endif
#if !defined(FAKE_VERSION)
#define FAKE_VERSION POL_VERSION_STRING
#endif

enum { MOST = 8 };

/* A device's op table, and the passes until it fails; 0: it never does. */
static struct {
    pol_ops ops;
    const pol_ops *below;
    int64_t left, moments;
    uint64_t reserved;
} fakes[MOST];

static int64_t setting(const char *name, int64_t otherwise)
{
    const char *value = getenv(name);
    return value ? strtoll(value, NULL, 10) : otherwise;
}

static void describe(int32_t index, pol_device_info *d)
{
    *d = (pol_device_info){.index = index,
                           .type = POL_DEVICE_GPU,
                           .memory_bytes = UINT64_C(1) << 32,
                           .max_buffer_bytes = UINT64_C(1) << 32,
                           .host_memory = setting("FAKE_HOST", 0),
                           .usable = true};
    if (setting("FAKE_SMALL", -1) == index)
        d->memory_bytes = (uint64_t)setting("FAKE_MEMORY", 0);
    snprintf(d->backend, sizeof d->backend, "cuda");
    snprintf(d->name, sizeof d->name, setting("FAKE_ODD", -1) == index ? "Fake B" : "Fake A");
}

static pol_status fake_list(pol_context *ctx, pol_device_info *out, int64_t cap, int64_t *n, char note[POL_NOTE_BYTES])
{
    (void)note;
    if (setting("FAKE_ILL", 0))
        return pol_fail(ctx, POL_EDEVICE, "the fake is ill");
    const int64_t devices = setting("FAKE_DEVICES", 3);
    for (int32_t i = 0; i < devices && i < MOST && *n < cap; i++)
        describe(i, &out[(*n)++]);
    return POL_OK;
}

static void sleep_ms(long ms) { nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL); }

static pol_status fake_reserve(pol_backend *be, uint64_t bytes)
{
    fakes[be->info.index].reserved = bytes;
    return POL_OK;
}

static pol_status fake_project(pol_backend *be, const pol_project_args *a)
{
    if (setting("FAKE_SLOW", -1) == be->info.index)
        sleep_ms(2);
    return fakes[be->info.index].below->project(be, a);
}

static pol_status fake_stream_in(pol_backend *be, pol_buf *dst, const void *src, int64_t n)
{
    if (setting("FAKE_FAR", -1) == be->info.index)
        sleep_ms(20);
    return fakes[be->info.index].below->stream_in(be, dst, src, n);
}

/* The last op of a pass. */
static pol_status fake_nll(pol_backend *be, const pol_nll_args *a)
{
    const int32_t i = be->info.index;
    if (fakes[i].reserved < be->bytes_in_use)
        return pol_fail(be->ctx, POL_EDEVICE, "the fake has %llu bytes of %llu that were reserved",
                        (unsigned long long)be->bytes_in_use, (unsigned long long)fakes[i].reserved);
    if (fakes[i].left && --fakes[i].left == 0) {
        if (setting("FAKE_KILLS", 0))
            raise(SIGKILL);
        return pol_fail(be->ctx, POL_EDEVICE, "the fake is broken");
    }
    return fakes[i].below->nll(be, a);
}

static pol_status fake_activation_stats(pol_backend *be, const pol_activation_stats_args *a)
{
    const int32_t i = be->info.index;
    if (setting("FAKE_METRIC", -1) == i)
        return pol_fail(be->ctx, POL_EDEVICE, "the fake is broken");
    return fakes[i].below->activation_stats(be, a);
}

static pol_status fake_gram(pol_backend *be, const pol_gram_args *a)
{
    const int32_t i = be->info.index;
    if (fakes[i].moments && --fakes[i].moments == 0)
        return pol_fail(be->ctx, POL_EDEVICE, "the fake is broken");
    return fakes[i].below->gram(be, a);
}

static pol_status fake_open(pol_context *ctx, const pol_device_info *device, const pol_backend_options *o,
                            pol_backend **out)
{
    const int32_t i = device->index;
    POL_TRY(pol_backend_open(ctx, &(pol_backend_options){.name = "cpu", .threads = o->threads}, out));
    fakes[i].below = (*out)->ops;
    fakes[i].ops = *(*out)->ops;
    fakes[i].ops.nll = fake_nll;
    fakes[i].ops.activation_stats = fake_activation_stats;
    fakes[i].ops.reserve = fake_reserve;
    fakes[i].ops.gram = fake_gram;
    if (setting("FAKE_UNSOLVED", 0)) {
        fakes[i].ops.solve_spd = NULL;
        fakes[i].ops.obs_sweep = NULL;
    }
    fakes[i].ops.project = fake_project;
    fakes[i].ops.stream_in = fake_stream_in;
    fakes[i].reserved = 0;
    const bool broken = setting("FAKE_BROKEN", -1) == i;
    fakes[i].moments = broken ? setting("FAKE_MOMENT", 0) : 0;
    fakes[i].left = broken && !fakes[i].moments ? setting("FAKE_PASS", 1) : 0;
    (*out)->ops = &fakes[i].ops;
    (*out)->info = *device;
    return POL_OK;
}

static pol_status fake_tune(pol_context *ctx, const pol_device_info *device, const pol_tune_job *job,
                            pol_tune_result *result)
{
    (void)ctx;
    (void)job;
    result->tried = 100 + device->index;
    return POL_OK;
}

POL_API pol_module_about_fn pol_module_about;

const pol_module *pol_module_about(void)
{
    static const pol_backend_driver driver = {.name = "cuda", .list = fake_list, .open = fake_open, .tune = fake_tune};
    static const pol_module about = {
        .abi = FAKE_ABI, .ops_size = FAKE_OPS_SIZE, .version = FAKE_VERSION, .driver = &driver};
    return &about;
}

/* cpu.c - the CPU as a backend: its memory, its description and its op tables. Ops run at once: nothing to sync. */
#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backends/drivers.h"
#include "cpu/cpu.h"

enum {
    MAX_THREADS = 1024,
    NLL_SLICE = 2048 /* wide enough for the GEMM; the logits of 1,024 tokens are then 8 MiB */
};

static pol_status cpu_buf_new(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out)
{
    if (dtype != POL_F32 && dtype != POL_I32)
        return pol_fail(be->ctx, POL_EUNSUPPORTED, "buffer: the CPU computes in f32; it has no 16-bit buffers");
    pol_cpu_buf *b = pol_alloc_zero(be->ctx, sizeof *b);
    if (!b)
        return POL_ENOMEM;
    b->block = pol_alloc_zero(be->ctx, (size_t)(rows * row) * pol_dtype_size(dtype) + CPU_ALIGN);
    if (!b->block) {
        pol_free(be->ctx, b);
        return POL_ENOMEM;
    }
    b->base = (pol_buf){.dtype = dtype, .n = rows * row, .row = row};
    b->data = (char *)b->block + (CPU_ALIGN - (uintptr_t)b->block % CPU_ALIGN) % CPU_ALIGN;
    *out = &b->base;
    return POL_OK;
}

static void cpu_buf_free(pol_backend *be, pol_buf *buf)
{
    if (!buf)
        return;
    pol_free(be->ctx, ((pol_cpu_buf *)buf)->block);
    pol_free(be->ctx, buf);
}

/* What the host holds is what the buffer holds: no type of a CPU buffer needs converting. */
static pol_status cpu_upload(pol_backend *be, pol_buf *dst, int64_t at, const void *src, int64_t n)
{
    (void)be;
    memcpy(cpu_bytes((pol_view){dst, at}), src, (size_t)n * pol_dtype_size(dst->dtype));
    return POL_OK;
}

static pol_status cpu_download(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n)
{
    (void)be;
    const size_t size = pol_dtype_size(src->dtype);
    memcpy(dst, (const char *)((const pol_cpu_buf *)src)->data + (size_t)at * size, (size_t)n * size);
    return POL_OK;
}

/* Weights that stay in host memory are on the device already, but the contract has them visit: a copy. */
static pol_status cpu_host_new(pol_backend *be, size_t bytes, void **out)
{
    *out = pol_alloc(be->ctx, bytes);
    return *out ? POL_OK : POL_ENOMEM;
}

static void cpu_host_free(pol_backend *be, void *p) { pol_free(be->ctx, p); }

static pol_status cpu_stream(pol_backend *be, pol_buf *dst, const void *src, int64_t n)
{
    return cpu_upload(be, dst, 0, src, n);
}

static pol_status cpu_stream_wait(pol_backend *be, pol_buf *dst)
{
    (void)be, (void)dst;
    return POL_OK;
}

static pol_status cpu_sync(pol_backend *be)
{
    (void)be;
    return POL_OK;
}

static void cpu_close(pol_backend *be) { pol_free(be->ctx, be); }

#define CPU_TABLE(suffix)                                                                                        \
    {                                                                                                            \
        .abi = POL_OPS_ABI, .size = sizeof(pol_ops), .buf_new = cpu_buf_new, .buf_free = cpu_buf_free,           \
        .upload = cpu_upload, .download = cpu_download, .download_later = cpu_download, .sync = cpu_sync,        \
        .close = cpu_close, .host_new = cpu_host_new, .host_free = cpu_host_free, .stream_in = cpu_stream,       \
        .stream_wait = cpu_stream_wait, .gemm_scratch = gemm_scratch_none,                                       \
        .attention_scratch = attention_scratch_##suffix, .nll_scratch = nll_scratch_##suffix,                    \
        .gram_scratch = gram_scratch_##suffix, .embed = embed_##suffix, .rmsnorm = rmsnorm_##suffix,             \
        .project = project_##suffix, .project_add = project_add_##suffix, .rope = rope_##suffix,                 \
        .attention = attention_##suffix, .swiglu = swiglu_##suffix, .nll = nll_##suffix,                         \
        .swap_units = swap_units_##suffix, .activation_stats = activation_stats_##suffix, .gram = gram_##suffix, \
        .solve_spd = solve_spd_cpu, .obs_sweep = obs_sweep_cpu                                                   \
    }

static const pol_ops cpu_ops = CPU_TABLE(cpu);
static const pol_ops reference_ops = CPU_TABLE(reference);

static void processor_name(char *out, size_t n)
{
    snprintf(out, n, "CPU");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f)
        return;
    char line[512];
    while (fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        snprintf(out, n, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    fclose(f);
}

/* OpenBLAS's version is the second word of its configuration line. */
static void describe(pol_device_info *d, int threads)
{
    memset(d, 0, sizeof *d);
    snprintf(d->backend, sizeof d->backend, "cpu");
    processor_name(d->name, sizeof d->name);
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    d->memory_bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : SIZE_MAX / 2;
    d->max_buffer_bytes = d->memory_bytes;
    char version[32] = "";
    sscanf(openblas_get_config(), "%*s %31s", version);
    snprintf(d->detail, sizeof d->detail, "%d threads, OpenBLAS %s with %s kernels", threads, version,
             openblas_get_corename());
    d->host_memory = true;
    d->type = POL_DEVICE_CPU;
    d->usable = true;
}

static pol_status cpu_list(pol_context *ctx, pol_device_info *out, int64_t cap, int64_t *n, char note[POL_NOTE_BYTES])
{
    (void)ctx;
    (void)note;
    if (*n < cap)
        describe(&out[(*n)++], omp_get_max_threads());
    return POL_OK;
}

static pol_status make(pol_context *ctx, const pol_ops *ops, int threads, pol_backend **out)
{
    pol_cpu *cpu = pol_alloc_zero(ctx, sizeof *cpu);
    if (!cpu)
        return POL_ENOMEM;
    cpu->threads = threads;
    cpu->base = (pol_backend){.ctx = ctx,
                              .ops = ops,
                              .weight_dtype = POL_F32,
                              .act_dtype = POL_F32,
                              .width_tile = 1,
                              .nll_slice = NLL_SLICE,
                              .buf_align = 1};
    describe(&cpu->base.info, threads);
    *out = &cpu->base;
    return POL_OK;
}

static pol_status cpu_open(pol_context *ctx, const pol_device_info *device, const pol_backend_options *o,
                           pol_backend **out)
{
    (void)device;
    pol_dtype weights;
    POL_TRY(pol_weights_asked(ctx, o, POL_F32, &weights));
    if (weights != POL_F32)
        return pol_fail(ctx, POL_EUNSUPPORTED,
                        "weights: the cpu backend has them in f32 alone (--weights f32), not in %s",
                        pol_dtype_name(weights));
    if (o->threads < 0 || o->threads > MAX_THREADS)
        return pol_fail(ctx, POL_EARG, "threads: %d is not between 0 and %d", o->threads, MAX_THREADS);
    if (openblas_get_parallel() != OPENBLAS_OPENMP)
        pol_log(ctx, POL_LOG_WARN,
                "this OpenBLAS is not its OpenMP build: its threads and the library's get in each other's way");
    return make(ctx, &cpu_ops, o->threads ? o->threads : omp_get_max_threads(), out);
}

pol_status pol_reference_open(pol_context *ctx, pol_backend **out)
{
    *out = NULL;
    return make(ctx, &reference_ops, 1, out);
}

const pol_backend_driver pol_driver_cpu = {.name = "cpu", .list = cpu_list, .open = cpu_open};

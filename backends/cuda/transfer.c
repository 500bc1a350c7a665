/* transfer.c - uploads and downloads by way of pinned staging memory.
 *
 * Host memory is the caller's again when a call returns, but the device reads it later: so what goes up is copied,
 * and converted, into a ring of pinned memory first. The ring has a few parts. What is staged goes into the part in
 * turn as long as there is room; then an event is recorded, which tells when the device has read the part, and the
 * next part's event is waited for before it is written again. What comes down lands in pinned memory too, and is handed
 * over when the device has been waited for. Both are allocated when the device is opened: nothing here allocates later.
 */
#include <string.h>

#include "backends/cuda/cuda.h"
#include "core/model/half.h"

enum { PARTS = 4, ARRIVALS = 512, STAGE_ALIGN = 16, BLOCK = 64 };

/* What is on its way down. */
typedef struct arrival {
    const void *from; /* in `down` */
    void *to;
    int64_t n;
    pol_dtype dtype;
} arrival;

/* For what goes up on one stream. */
typedef struct ring {
    char *up;                /* pinned: PARTS parts, used in turn */
    cudaEvent_t read[PARTS]; /* the device is done with a part */
    int part;
    size_t used; /* of the part in turn */
} ring;

typedef struct cu_staging {
    ring rings[2]; /* [1]: lists of units that move */
    char *down;    /* pinned: as much as a part */
    char *lists;   /* the device's: as much as a part */
    size_t down_used;
    int n_arrivals;
    arrival arrivals[ARRIVALS];
} cu_staging;

static pol_status ring_open(cu *c, ring *r)
{
    CU_TRY(c->base.ctx, "staging", cudaHostAlloc, (void **)&r->up, PARTS * c->profile.staging_bytes,
           cudaHostAllocDefault);
    for (int i = 0; i < PARTS; i++)
        CU_TRY(c->base.ctx, "staging", cudaEventCreateWithFlags, &r->read[i], cudaEventDisableTiming);
    return POL_OK;
}

static void ring_close(ring *r)
{
    for (int i = 0; i < PARTS; i++)
        if (r->read[i])
            cudaEventDestroy(r->read[i]);
    if (r->up)
        cudaFreeHost(r->up);
}

pol_status cu_staging_open(cu *c)
{
    pol_context *ctx = c->base.ctx;
    const size_t bytes = c->profile.staging_bytes;
    cu_staging *s = c->staging = pol_alloc_zero(ctx, sizeof *s);
    if (!s)
        return POL_ENOMEM;
    for (int i = 0; i < 2; i++)
        POL_TRY(ring_open(c, &s->rings[i]));
    CU_TRY(ctx, "staging", cudaHostAlloc, (void **)&s->down, bytes, cudaHostAllocDefault);
    CU_TRY(ctx, "staging", cudaMalloc, (void **)&s->lists, bytes);
    return POL_OK;
}

void cu_staging_close(cu *c)
{
    cu_staging *s = c->staging;
    if (!s)
        return;
    for (int i = 0; i < 2; i++)
        ring_close(&s->rings[i]);
    if (s->lists)
        cudaFree(s->lists);
    if (s->down)
        cudaFreeHost(s->down);
    pol_free(c->base.ctx, s);
    c->staging = NULL;
}

void *cu_device_lists(const cu *c) { return c->staging->lists; }

pol_status cu_stage(cu *c, bool lists, size_t bytes, void **host)
{
    pol_context *ctx = c->base.ctx;
    const size_t room = c->profile.staging_bytes;
    ring *r = &c->staging->rings[lists];
    if (bytes > room - r->used) {
        const int next = (r->part + 1) % PARTS;
        CU_TRY(ctx, "staging", cudaEventRecord, r->read[r->part], lists ? c->moving : c->compute);
        CU_TRY(ctx, "staging", cudaEventSynchronize, r->read[next]); /* of no effect the first time round */
        r->part = next;
        r->used = 0;
    }
    *host = r->up + (size_t)r->part * room + r->used;
    const size_t taken = (bytes + STAGE_ALIGN - 1) / STAGE_ALIGN * STAGE_ALIGN;
    r->used = taken < room - r->used ? r->used + taken : room;
    return POL_OK;
}

/* Loops over a whole block have a constant count, which is what lets a compiler vectorise them without being told. */
static void to_bf16(const float *from, int64_t n, uint16_t *to)
{
    int64_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        for (int j = 0; j < BLOCK; j++)
            to[i + j] = pol_f32_to_bf16(from[i + j]);
    for (; i < n; i++)
        to[i] = pol_f32_to_bf16(from[i]);
}

static void to_f16(const float *from, int64_t n, uint16_t *to)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = pol_f32_to_f16(from[i]);
}

static void from_bf16(const uint16_t *from, int64_t n, float *to)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = pol_bf16_to_f32(from[i]);
}

static void from_f16(const uint16_t *from, int64_t n, float *to)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = pol_f16_to_f32(from[i]);
}

/* n elements of the host's, f32 or i32, as elements of a buffer's type; and back. */
static void pack(pol_dtype dtype, const void *from, int64_t n, void *to)
{
    switch (dtype) {
    case POL_BF16: to_bf16(from, n, to); break;
    case POL_F16: to_f16(from, n, to); break;
    default: memcpy(to, from, (size_t)n * pol_dtype_size(dtype)); break;
    }
}

static void unpack(pol_dtype dtype, const void *from, int64_t n, void *to)
{
    switch (dtype) {
    case POL_BF16: from_bf16(from, n, to); break;
    case POL_F16: from_f16(from, n, to); break;
    default: memcpy(to, from, (size_t)n * pol_dtype_size(dtype)); break;
    }
}

enum { HOST_SIZE = sizeof(float) }; /* of an element of the host's, i32 too */

/* To `to` on the device, as elements of a type. */
static pol_status send(cu *c, pol_dtype dtype, void *to, const void *src, int64_t n)
{
    const size_t size = pol_dtype_size(dtype);
    const int64_t most = (int64_t)(c->profile.staging_bytes / size);
    for (int64_t i = 0, now; i < n; i += now) {
        void *staged;
        now = pol_min_i64(most, n - i);
        POL_TRY(cu_stage(c, false, (size_t)now * size, &staged));
        pack(dtype, (const char *)src + (size_t)i * HOST_SIZE, now, staged);
        CU_TRY(c->base.ctx, "upload", cudaMemcpyAsync, (char *)to + (size_t)i * size, staged, (size_t)now * size,
               cudaMemcpyHostToDevice, c->compute);
    }
    return POL_OK;
}

pol_status upload_cuda(pol_backend *be, pol_buf *dst, int64_t at, const void *src, int64_t n)
{
    cu *c = cu_of(be);
    const pol_view to = {dst, at};
    POL_TRY(cu_begin(c, CU_TRANSFER));
    POL_TRY(cu_use(c, to));
    POL_TRY(send(c, dst->dtype, cu_at(to), src, n));
    return cu_used(c, to);
}

pol_status cu_send(cu *c, void *to, const void *host, size_t bytes)
{
    return send(c, POL_I32, to, host, (int64_t)(bytes / HOST_SIZE));
}

/* Waits, and hands over what has arrived: nothing of it where the device failed, since then it is of no use. */
static pol_status settle(cu *c, const char *what)
{
    cu_staging *s = c->staging;
    const int n = s->n_arrivals;
    s->n_arrivals = 0;
    s->down_used = 0;
    POL_TRY(cu_wait_for_moves(c)); /* their faults are told here too */
    CU_TRY(c->base.ctx, what, cudaStreamSynchronize, c->compute);
    for (int i = 0; i < n; i++)
        unpack(s->arrivals[i].dtype, s->arrivals[i].from, s->arrivals[i].n, s->arrivals[i].to);
    return POL_OK;
}

/* From `src` on the device, where they are elements of a type; they arrive when the device is next waited for. */
static pol_status fetch(cu *c, pol_dtype dtype, const void *src, void *dst, int64_t n)
{
    cu_staging *s = c->staging;
    const size_t size = pol_dtype_size(dtype), room = c->profile.staging_bytes;
    for (int64_t i = 0, now; i < n; i += now) {
        now = pol_min_i64((int64_t)(room / size), n - i);
        const size_t bytes = (size_t)now * size, taken = (bytes + STAGE_ALIGN - 1) / STAGE_ALIGN * STAGE_ALIGN;
        if (s->n_arrivals == ARRIVALS || bytes > room - s->down_used)
            POL_TRY(settle(c, "download"));
        char *from = s->down + s->down_used;
        CU_TRY(c->base.ctx, "download", cudaMemcpyAsync, from, (const char *)src + (size_t)i * size, bytes,
               cudaMemcpyDeviceToHost, c->compute);
        s->arrivals[s->n_arrivals++] = (arrival){from, (char *)dst + (size_t)i * HOST_SIZE, now, dtype};
        s->down_used = taken < room - s->down_used ? s->down_used + taken : room;
    }
    return POL_OK;
}

pol_status download_later_cuda(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n)
{
    cu *c = cu_of(be);
    const pol_view from = {(pol_buf *)src, at};
    POL_TRY(cu_begin(c, CU_TRANSFER));
    POL_TRY(cu_use(c, from));
    POL_TRY(fetch(c, src->dtype, cu_at(from), dst, n));
    return cu_used(c, from);
}

/* Waits for them too. Where it fails none is left that would arrive later: all but the last piece have by then. */
static pol_status fetch_now(cu *c, pol_dtype dtype, const void *src, void *dst, int64_t n)
{
    POL_TRY(fetch(c, dtype, src, dst, n));
    return settle(c, "download");
}

pol_status download_cuda(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n)
{
    cu *c = cu_of(be);
    const pol_view from = {(pol_buf *)src, at};
    POL_TRY(cu_begin(c, CU_TRANSFER));
    POL_TRY(cu_use(c, from));
    POL_TRY(fetch_now(c, src->dtype, cu_at(from), dst, n));
    return cu_used(c, from);
}

pol_status cu_fetch(cu *c, void *host, const void *from, size_t bytes)
{
    return fetch_now(c, POL_I32, from, host, (int64_t)(bytes / HOST_SIZE));
}

pol_status sync_cuda(pol_backend *be)
{
    cu *c = cu_of(be);
    CU_TRY(be->ctx, "sync", cudaSetDevice, c->device);
    return settle(c, "sync");
}

/* late_backend.h - the CPU as a device that queues, for tests of what must not depend on being served at once: what
 * download_later gives arrives at the next wait, what stream_in gives when it is waited for, any call can be made to
 * fail, a pass may be recorded and replayed. */
#ifndef POL_LATE_BACKEND_H
#define POL_LATE_BACKEND_H

#include "core/backend.h"
#include "tests/test.h"

enum { LATE_FLIGHTS = 1024, LATE_CALLS = 256, LATE_PASSES = 512, LATE_KEY_BYTES = 1024, LATE_ARGS_BYTES = 192 };

/* One call of an op inside a pass. Padding of `args` is zero. */
typedef struct late_call {
    pol_status (*again)(pol_backend *be, const void *args);
    unsigned char args[LATE_ARGS_BYTES];
} late_call;

typedef struct late_pass {
    unsigned char key[LATE_KEY_BYTES];
    size_t key_bytes;
    int64_t n;
    late_call calls[LATE_CALLS];
} late_pass;

typedef struct late_flight {
    void *dst, *data;
    size_t bytes;
} late_flight;

typedef struct late_stream {
    pol_buf *dst;
    const void *src;
    int64_t n;
    int64_t ops; /* called before it */
} late_stream;

/* One device a program. */
static struct {
    const pol_ops *real;
    int64_t fail_in; /* calls until one fails; < 0: none does */
    int64_t ops, syncs, downloads_late, streams, swaps;
    int64_t idle_waits;                /* for streams, with nothing computed meanwhile */
    late_flight flights[LATE_FLIGHTS]; /* to the host */
    int64_t n_flights;
    late_stream streamed[64]; /* to buffers */
    int64_t n_streamed;
    bool replays; /* a key that comes again is served from what was recorded */
    int64_t n_replayed;
    late_pass *passes; /* [LATE_PASSES] finished, in order; also where replayed ones are not kept */
    int64_t n_passes;
    late_pass *open; /* under way */
} late;

static inline pol_status late_fault(pol_backend *be, const char *what)
{
    if (late.fail_in < 0 || late.fail_in-- > 0)
        return POL_OK;
    return pol_fail(be->ctx, POL_EDEVICE, "planted: %s", what);
}

static inline void late_note(pol_status (*again)(pol_backend *, const void *), const void *args, size_t n)
{
    late.ops++;
    if (!late.open)
        return;
    assert_true(late.open->n < LATE_CALLS && n <= LATE_ARGS_BYTES);
    late_call *c = &late.open->calls[late.open->n++];
    memset(c, 0, sizeof *c);
    c->again = again;
    memcpy(c->args, args, n);
}

#define LATE_UP_TO(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))

/* An op: may fail, is noted in the pass under way. `last` is the last field of its arguments. */
#define LATE_OP(name, last)                                                                                      \
    static pol_status late_again_##name(pol_backend *be, const void *args) { return late.real->name(be, args); } \
    static pol_status late_##name(pol_backend *be, const pol_##name##_args *a)                                   \
    {                                                                                                            \
        POL_TRY(late_fault(be, #name));                                                                          \
        late_note(late_again_##name, a, LATE_UP_TO(pol_##name##_args, last));                                    \
        return late.real->name(be, a);                                                                           \
    }
LATE_OP(embed, V)
LATE_OP(rmsnorm, eps)
LATE_OP(project, C)
LATE_OP(project_add, C)
LATE_OP(rope, D)
LATE_OP(attention, scale)
LATE_OP(swiglu, padded)
LATE_OP(nll, slice)
LATE_OP(activation_stats, N)

static pol_status late_swap_units(pol_backend *be, const pol_swap_args *a, int64_t n)
{
    assert_null(late.open);
    late.swaps++;
    POL_TRY(late_fault(be, "swap_units"));
    return late.real->swap_units(be, a, n);
}

static pol_status late_upload(pol_backend *be, pol_buf *dst, int64_t at, const void *src, int64_t n)
{
    assert_null(late.open); /* no transfers inside a pass */
    POL_TRY(late_fault(be, "upload"));
    return late.real->upload(be, dst, at, src, n);
}

static void late_arrive(bool whole)
{
    for (int64_t i = 0; i < late.n_flights; i++) {
        if (whole)
            memcpy(late.flights[i].dst, late.flights[i].data, late.flights[i].bytes);
        free(late.flights[i].data);
    }
    late.n_flights = 0;
}

static pol_status late_download(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n)
{
    assert_null(late.open);
    POL_TRY(late_fault(be, "download"));
    late_arrive(true);
    return late.real->download(be, src, at, dst, n);
}

static pol_status late_download_later(pol_backend *be, const pol_buf *src, int64_t at, void *dst, int64_t n)
{
    assert_null(late.open);
    POL_TRY(late_fault(be, "download_later"));
    assert_true(late.n_flights < LATE_FLIGHTS);
    late_flight *f = &late.flights[late.n_flights++];
    *f = (late_flight){.dst = dst, .bytes = (size_t)n * pol_dtype_size(src->dtype)};
    f->data = malloc(f->bytes);
    late.downloads_late++;
    return late.real->download(be, src, at, f->data, n);
}

/* A device that fails writes nothing more. */
static pol_status late_sync(pol_backend *be)
{
    late.syncs++;
    const pol_status s = late_fault(be, "sync");
    late_arrive(s == POL_OK);
    POL_TRY(s);
    return late.real->sync(be);
}

/* Until it is waited for a streamed buffer holds nothing of use. What nobody waited for makes room for what comes. */
static pol_status late_stream_in(pol_backend *be, pol_buf *dst, const void *src, int64_t n)
{
    assert_null(late.open);
    POL_TRY(late_fault(be, "stream_in"));
    late.streams++;
    int64_t at = 0;
    while (at < late.n_streamed && late.streamed[at].dst != dst)
        at++;
    assert_true(at < (int64_t)POL_COUNT(late.streamed));
    late.n_streamed += at == late.n_streamed;
    late.streamed[at] = (late_stream){.dst = dst, .src = src, .n = n, .ops = late.ops};
    const size_t bytes = (size_t)dst->n * pol_dtype_size(dst->dtype);
    void *poison = malloc(bytes);
    memset(poison, 0xff, bytes); /* NaN, also where the copy will not reach */
    const pol_status s = late.real->stream_in(be, dst, poison, dst->n);
    free(poison);
    return s;
}

static pol_status late_stream_wait(pol_backend *be, pol_buf *dst)
{
    assert_null(late.open);
    POL_TRY(late_fault(be, "stream_wait"));
    for (int64_t i = 0; i < late.n_streamed; i++)
        if (late.streamed[i].dst == dst) {
            const late_stream arrived = late.streamed[i];
            late.streamed[i] = late.streamed[--late.n_streamed];
            late.idle_waits += arrived.ops == late.ops;
            POL_TRY(late.real->stream_in(be, dst, arrived.src, arrived.n));
            break;
        }
    return late.real->stream_wait(be, dst);
}

static pol_status late_pass_begin(pol_backend *be, const void *key, size_t key_bytes, bool *replayed)
{
    assert_null(late.open);
    assert_false(*replayed);
    assert_true(key_bytes <= LATE_KEY_BYTES && late.n_passes < LATE_PASSES);
    POL_TRY(late_fault(be, "pass_begin"));
    for (int64_t i = 0; late.replays && i < late.n_passes; i++) {
        const late_pass *p = &late.passes[i];
        if (p->key_bytes != key_bytes || memcmp(p->key, key, key_bytes) != 0)
            continue;
        for (int64_t c = 0; c < p->n; c++)
            POL_TRY(p->calls[c].again(be, p->calls[c].args));
        late.n_replayed++;
        *replayed = true;
        return POL_OK;
    }
    late.open = &late.passes[late.n_passes];
    late.open->key_bytes = key_bytes;
    late.open->n = 0;
    memcpy(late.open->key, key, key_bytes);
    return POL_OK;
}

static pol_status late_pass_end(pol_backend *be, pol_status so_far)
{
    assert_non_null(late.open);
    late.open = NULL;
    POL_TRY(so_far);
    POL_TRY(late_fault(be, "pass_end"));
    late.n_passes++;
    return POL_OK;
}

static void late_buf_free(pol_backend *be, pol_buf *b)
{
    late.n_passes = 0; /* what was recorded is forgotten */
    late.real->buf_free(be, b);
}

/* `be` serves late from here on, to its end; late_end() frees what the bookkeeping took. */
static inline void late_start(pol_backend *be)
{
    static pol_ops ops;
    memset(&late, 0, sizeof late);
    late.real = be->ops;
    late.fail_in = -1;
    late.passes = malloc(LATE_PASSES * sizeof *late.passes);
    ops = *be->ops;
    ops.embed = late_embed;
    ops.rmsnorm = late_rmsnorm;
    ops.project = late_project;
    ops.project_add = late_project_add;
    ops.rope = late_rope;
    ops.attention = late_attention;
    ops.swiglu = late_swiglu;
    ops.nll = late_nll;
    ops.activation_stats = late_activation_stats;
    ops.swap_units = late_swap_units;
    ops.upload = late_upload;
    ops.download = late_download;
    ops.download_later = late_download_later;
    ops.sync = late_sync;
    ops.stream_in = late_stream_in;
    ops.stream_wait = late_stream_wait;
    ops.pass_begin = late_pass_begin;
    ops.pass_end = late_pass_end;
    ops.buf_free = late_buf_free;
    be->ops = &ops;
}

static inline void late_end(void)
{
    assert_int_equal(late.n_flights, 0); /* everything was waited for */
    free(late.passes);
    late.passes = NULL;
}

#endif

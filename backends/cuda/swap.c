/* swap.c - exchanging units of weight buffers: a list goes up in one copy, and one launch moves what is in it, whatever
 * buffers and layers. Where units move beside computing (moves.c) a list ends when it has profile.move_bytes, so that
 * large layers need not wait for each other; else where the staging ring has no more room. */
#include "backends/cuda/cuda.h"

/* What is still to be queued: pairs of the buffers from `a` on, of the first of which `done` are. */
typedef struct rest {
    const pol_swap_args *a;
    int64_t done, pairs;
} rest;

static int64_t unit_bytes(const pol_swap_args *a) { return a->unit * (int64_t)pol_dtype_size(a->w.buf->dtype); }

/* The widest vector that divides units and where they lie. */
static int32_t vector_of(const void *base, int64_t bytes)
{
    int32_t vector = 16;
    while (((uintptr_t)base | (uintptr_t)bytes) % (uintptr_t)vector)
        vector /= 2;
    return vector;
}

/* Of the first buffer, n pairs from `done` on into pair[2 n]; `on_device` is where that will lie. */
static cu_swap take(const rest *r, int64_t n, int32_t *pair, const int32_t *on_device)
{
    const pol_swap_args *a = r->a;
    for (int64_t i = 0; i < n; i++) {
        pair[2 * i] = a->a[r->done + i];
        pair[2 * i + 1] = a->b[r->done + i];
    }
    void *base = cu_at(a->w);
    const int64_t bytes = unit_bytes(a);
    return (cu_swap){.base = base, .pairs = on_device, .bytes = bytes, .n_pairs = n, .vector = vector_of(base, bytes)};
}

/* How many buffers and pairs one launch should move. Known before they are staged: to stage for the whole rest, list
 * after list, would fill the ring and have the host wait. */
static void next_list(const cu *c, const rest *r, int64_t *buffers, int64_t *pairs)
{
    const uint64_t most = c->moving != c->compute ? c->profile.move_bytes : UINT64_MAX;
    uint64_t moved = 0;
    *buffers = *pairs = 0;
    for (const pol_swap_args *a = r->a; *pairs < r->pairs && moved < most; a++) {
        const int64_t n = a->n_pairs - (a == r->a ? r->done : 0);
        *buffers += n > 0;
        *pairs += n;
        moved += 2 * (uint64_t)n * (uint64_t)unit_bytes(a);
    }
}

/* As much as there is room for, and as one launch should move: a head a buffer, then the pairs. */
static pol_status swap_some(cu *c, rest *r)
{
    const size_t pair_bytes = 2 * sizeof(int32_t), room = c->profile.staging_bytes;
    int64_t heads, pairs;
    next_list(c, r, &heads, &pairs);
    heads = pol_min_i64(heads, (int64_t)(room / 2 / sizeof(cu_swap)));
    const size_t pairs_at = (size_t)heads * sizeof(cu_swap);
    pairs = pol_min_i64(pairs, (int64_t)((room - pairs_at) / pair_bytes));
    const pol_swap_args *const first = r->a;
    char *staged, *on_device = cu_device_lists(c);
    cu_swaps all = {.swaps = (const cu_swap *)on_device};
    POL_TRY(cu_stage(c, true, pairs_at + (size_t)pairs * pair_bytes, (void **)&staged));
    while (all.n < heads && all.n_pairs < pairs) {
        const int64_t n = pol_min_i64(r->a->n_pairs - r->done, pairs - all.n_pairs);
        const size_t at = pairs_at + (size_t)all.n_pairs * pair_bytes;
        if (n) {
            const cu_swap s = take(r, n, (int32_t *)(staged + at), (const int32_t *)(on_device + at));
            ((cu_swap *)staged)[all.n++] = s;
            all.n_pairs += n;
            all.longest = pol_max_i64(all.longest, s.bytes / s.vector);
            r->done += n;
            POL_TRY(cu_move(c, (cu_buf *)r->a->w.buf));
        }
        if (r->done == r->a->n_pairs) {
            r->a++;
            r->done = 0;
        }
    }
    r->pairs -= all.n_pairs;
    CU_TRY(c->base.ctx, "swap_units", cudaMemcpyAsync, on_device, staged, pairs_at + (size_t)all.n_pairs * pair_bytes,
           cudaMemcpyHostToDevice, c->moving);
    CU_TRY(c->base.ctx, "swap_units", pol_cu_swap_units, c->moving, &all);
    for (const pol_swap_args *a = first; a < r->a + (r->done > 0); a++) /* of the last perhaps some pairs alone */
        if (a->n_pairs)
            POL_TRY(cu_moved(c, (cu_buf *)a->w.buf));
    return POL_OK;
}

pol_status swap_units_cuda(pol_backend *be, const pol_swap_args *a, int64_t n)
{
    cu *c = cu_of(be);
    rest r = {.a = a};
    for (int64_t i = 0; i < n; i++)
        r.pairs += a[i].n_pairs;
    POL_TRY(cu_begin(c, CU_SWAP_UNITS));
    while (r.pairs)
        POL_TRY(swap_some(c, &r));
    return POL_OK;
}

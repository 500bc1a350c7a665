/* test_cuda_stream.c - weights that visit the device, two at a time in turn, while ops use what came before: whatever
 * order the device's two streams take, every op finds the weights it asked for. */
#include "core/model/half.h"
#include "tests/cuda/profiles.h"

enum { LAYERS = 7, N = 96, C = 64, V = N, T = 5, SEEDS = 12, VISITS = 3, STAGING = 1 << 16 };

static int setup(void **state)
{
    switch_on(1, 64 << 20);
    return test_context_open(state);
}

/* What element i of layer l is; exact in bf16. */
static float value(int l, int64_t i) { return (float)((l * 53 + i * 7) % 199); }

typedef struct fixture {
    pol_backend *be;
    uint16_t *layer[LAYERS];
    pol_buf *slot[2], *ids, *x;
    int32_t id[T];
} fixture;

static void open_layers(fixture *f, pol_context *ctx)
{
    f->be = open_small(ctx, STAGING);
    for (int l = 0; l < LAYERS; l++) {
        assert_ok(ctx, pol_host_new(f->be, V * C * sizeof(uint16_t), (void **)&f->layer[l]));
        for (int64_t i = 0; i < V * C; i++)
            f->layer[l][i] = pol_f32_to_bf16(value(l, i));
    }
    for (int i = 0; i < 2; i++)
        assert_ok(ctx, pol_buf_new_rows(f->be, POL_BF16, V, C, &f->slot[i]));
    assert_ok(ctx, pol_buf_new(f->be, POL_I32, T, &f->ids));
    assert_ok(ctx, pol_buf_new(f->be, POL_F32, T * C, &f->x));
    for (int t = 0; t < T; t++)
        f->id[t] = (t * 19 + 1) % V;
    assert_ok(ctx, pol_upload(f->be, f->ids, 0, f->id, T));
}

static void close_layers(fixture *f)
{
    for (int i = 0; i < 2; i++)
        pol_buf_free(f->be, f->slot[i]);
    pol_buf_free(f->be, f->ids);
    pol_buf_free(f->be, f->x);
    for (int l = 0; l < LAYERS; l++)
        pol_host_free(f->be, f->layer[l]);
    pol_backend_close(f->be);
    assert_clean();
}

/* Rows of the layer in `slot`, fetched for the host later on. */
static void use(fixture *f, int slot, float got[T * C])
{
    pol_context *ctx = f->be->ctx;
    assert_ok(ctx, pol_stream_wait(f->be, f->slot[slot]));
    assert_ok(
        ctx,
        pol_embed(f->be, &(pol_embed_args){
                             .x = {f->x, 0}, .table = {f->slot[slot], 0}, .ids = {f->ids, 0}, .T = T, .C = C, .V = V}));
    assert_ok(ctx, pol_download_later(f->be, f->x, 0, got, T * C));
}

static void check(const fixture *f, int l, const float got[T * C])
{
    for (int i = 0; i < T * C; i++) {
        const float want = value(l, (int64_t)f->id[i / C] * C + i % C);
        if (got[i] != want)
            fail_msg("layer %d, token %d, element %d: %g instead of %g", l, i / C, i % C, (double)got[i], (double)want);
    }
}

static void layers_visit_in_turn(void **state)
{
    pol_context *ctx = *state;
    static float got[VISITS * LAYERS][T * C];
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        fixture f;
        open_layers(&f, ctx);
        assert_ok(ctx, pol_sync(f.be));
        sim_seed(seed);
        sim_count_anew();
        assert_ok(ctx, pol_stream_in(f.be, f.slot[0], f.layer[0], V * C));
        for (int v = 0; v < VISITS * LAYERS; v++) {
            assert_ok(ctx, pol_stream_in(f.be, f.slot[(v + 1) % 2], f.layer[(v + 1) % LAYERS], V * C));
            use(&f, v % 2, got[v]);
        }
        assert_int_equal(sim_counted().waits, 0);
        assert_ok(ctx, pol_sync(f.be));
        for (int v = 0; v < VISITS * LAYERS; v++)
            check(&f, v % LAYERS, got[v]);
        close_layers(&f);
    }
}

/* Copies of layers are on a stream of their own. */
static void copies_run_beside(void **state)
{
    enum { COMPUTE = 0, COPY = 1 };
    pol_context *ctx = *state;
    fixture f;
    float got[T * C];
    switch_on(1, 64 << 20);
    open_layers(&f, ctx);
    const int64_t before = sim_copied_on(0, COPY);
    assert_ok(ctx, pol_stream_in(f.be, f.slot[0], f.layer[3], V * C));
    use(&f, 0, got);
    assert_ok(ctx, pol_sync(f.be));
    check(&f, 3, got);
    assert_int_equal(sim_copied_on(0, COPY) - before, V * C * 2);
    assert_int_equal(sim_counted().pageable_copies, 0);
    close_layers(&f);
}

/* A buffer that is freed while its layer is under way: what takes its place is not written over. */
static void what_is_under_way_harms_nobody(void **state)
{
    pol_context *ctx = *state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        fixture f;
        static float x[V * C];
        pol_buf *before, *after;
        switch_on(1, 64 << 20);
        open_layers(&f, ctx);
        sim_seed(seed);
        for (int i = 0; i < 2; i++)
            pol_buf_free(f.be, f.slot[i]);
        pol_buf_free(f.be, f.ids);
        pol_buf_free(f.be, f.x);
        assert_ok(ctx, pol_reserve(f.be, V * C * 2));
        assert_ok(ctx, pol_buf_new_rows(f.be, POL_BF16, V, C, &before));
        assert_ok(ctx, pol_stream_in(f.be, before, f.layer[1], V * C));
        pol_buf_free(f.be, before);
        assert_ok(ctx, pol_buf_new_rows(f.be, POL_BF16, V, C, &after));
        assert_ok(ctx, pol_download(f.be, after, 0, x, V * C));
        for (int i = 0; i < V * C; i++)
            assert_true(x[i] == 0);
        pol_buf_free(f.be, after);
        f.slot[0] = f.slot[1] = f.ids = f.x = NULL;
        close_layers(&f);
    }
}

/* Waiting for what was never asked for is no mistake. */
static void a_buffer_that_never_streamed(void **state)
{
    pol_context *ctx = *state;
    fixture f;
    open_layers(&f, ctx);
    assert_ok(ctx, pol_stream_wait(f.be, f.x));
    close_layers(&f);
}

static void pinned_memory_runs_out(void **state)
{
    pol_context *ctx = *state;
    pol_backend *be = open_small(ctx, STAGING);
    void *p;
    sim_fail("cudaHostAlloc", 1, cudaErrorMemoryAllocation);
    assert_fails(ctx, pol_host_new(be, 1000, &p), POL_ENOMEM,
                 "1000 bytes of pinned host memory: cudaHostAlloc: cudaErrorMemoryAllocation (2): the host has not");
    assert_null(p);
    pol_backend_close(be);
    assert_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_visit_in_turn),           cmocka_unit_test(copies_run_beside),
        cmocka_unit_test(what_is_under_way_harms_nobody), cmocka_unit_test(a_buffer_that_never_streamed),
        cmocka_unit_test(pinned_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, setup, test_context_close);
}

/* test_cuda_moves.c - units that move beside computing: whatever is called in whatever order gives, bit for bit, what
 * it gives where units move in their turn. */
#include "core/base/rng.h"
#include "tests/cuda/profiles.h"

enum {
    MATRICES = 3,
    UNITS = 24,
    C = 16,
    T = 4,
    CHANNELS = 8,
    STEPS = 150,
    SEQUENCES = 4,
    SEEDS = 6,
    STAGING = 512,
    RESULTS = STEPS * UNITS * C
};

typedef struct fixture {
    pol_context *ctx;
    pol_backend *be;
    pol_buf *w[MATRICES], *bias[MATRICES];
    pol_buf *w_gated, *b_gated; /* [CHANNELS, 2, C] and [CHANNELS, 2] */
    pol_buf *x, *y, *stream, *ids, *scratch;
    pol_buf *host_side; /* a matrix that visits, and what it is filled with */
    uint16_t *home;
    uint64_t sequence;
    int64_t step, n_results;
    float *results;
} fixture;

/* A number below n that the step alone decides. */
static int32_t draw(const fixture *f, uint32_t what, int32_t n)
{
    uint32_t word[4];
    pol_philox(f->sequence, POL_STREAM_TEST, (uint64_t)f->step, 0, what, word);
    return (int32_t)(word[0] % (uint32_t)n);
}

static void fill(fixture *f, pol_buf *b, uint32_t key)
{
    float x[UNITS * C];
    pol_normal(5, POL_STREAM_TEST, (uint64_t)f->step, key, b->n, x);
    assert_ok(f->ctx, pol_upload(f->be, b, 0, x, b->n));
}

static pol_buf *filled(fixture *f, pol_dtype dtype, int64_t rows, int64_t row, uint32_t key)
{
    pol_buf *b;
    assert_ok(f->ctx, pol_buf_new_rows(f->be, dtype, rows, row, &b));
    if (dtype != POL_I32)
        fill(f, b, key);
    return b;
}

static void open_fixture(fixture *f, pol_context *ctx, uint64_t sequence, size_t move_bytes)
{
    cu_profile use;
    *f = (fixture){.ctx = ctx, .results = calloc(RESULTS, sizeof *f->results), .sequence = sequence, .step = 1 << 20};
    assert_non_null(f->results);
    assert_ok(ctx, cu_profile_of(ctx, 0, &use));
    use.move_bytes = move_bytes;
    use.fuse = sequence % 2 ? CU_FUSE_ALWAYS : CU_FUSE_NEVER;
    use.staging_bytes = STAGING;
    use.workspace_bytes = 1024;
    assert_ok(ctx, pol_cuda_open(ctx, 0, &use, &f->be));
    assert_ok(ctx, pol_reserve(f->be, 1 << 18));
    for (uint32_t i = 0; i < MATRICES; i++) {
        f->w[i] = filled(f, POL_BF16, UNITS, C, i);
        f->bias[i] = filled(f, POL_F32, 1, UNITS, 10 + i);
    }
    f->w_gated = filled(f, POL_BF16, CHANNELS, 2 * C, 15);
    f->b_gated = filled(f, POL_F32, 1, 2 * CHANNELS, 16);
    f->x = filled(f, POL_BF16, 1, T * C, 20);
    f->y = filled(f, POL_BF16, 1, T * UNITS, 21);
    f->stream = filled(f, POL_F32, 1, T * C, 22);
    f->ids = filled(f, POL_I32, 1, T, 0);
    f->scratch = filled(f, POL_F32, 1, 16, 23);
    pol_buf_free(f->be, f->scratch);
    assert_ok(ctx, pol_buf_new(f->be, POL_F32, pol_nll_scratch(f->be, T, C, UNITS), &f->scratch));
    f->host_side = filled(f, POL_BF16, UNITS, C, 24);
    assert_ok(ctx, pol_host_new(f->be, UNITS * C * sizeof *f->home, (void **)&f->home));
    for (int i = 0; i < UNITS * C; i++)
        f->home[i] = (uint16_t)(0x3f00 + i % 97);
}

static void close_fixture(fixture *f)
{
    pol_buf *const rest[] = {f->w_gated, f->b_gated, f->x, f->y, f->stream, f->ids, f->scratch, f->host_side};
    pol_host_free(f->be, f->home);
    for (int i = 0; i < MATRICES; i++) {
        pol_buf_free(f->be, f->w[i]);
        pol_buf_free(f->be, f->bias[i]);
    }
    for (size_t i = 0; i < POL_COUNT(rest); i++)
        pol_buf_free(f->be, rest[i]);
    pol_backend_close(f->be);
    assert_clean();
}

static void keep(fixture *f, pol_buf *b, int64_t n)
{
    assert_true(f->n_results + n <= RESULTS);
    assert_ok(f->ctx, pol_download_later(f->be, b, 0, f->results + f->n_results, n));
    f->n_results += n;
}

/* Some pairs of some matrices, of the one that visits, and of the biases of those that have one. */
static void swap(fixture *f)
{
    pol_swap_args args[2 * MATRICES + 3];
    int32_t a[UNITS / 2], b[UNITS / 2];
    const int32_t pairs = 1 + draw(f, 1, UNITS / 2);
    int64_t n = 0;
    for (int32_t i = 0; i < pairs; i++) {
        a[i] = (i * 2 + draw(f, 2, UNITS)) % UNITS;
        b[i] = (a[i] + 1) % UNITS;
    }
    for (uint32_t i = 0; i < MATRICES; i++) {
        if (!draw(f, 3 + i, 2))
            continue;
        args[n++] = (pol_swap_args){{f->w[i], 0}, C, UNITS, pairs, a, b};
        args[n++] = (pol_swap_args){{f->bias[i], 0}, 1, UNITS, draw(f, 7, 2) ? pairs : 0, a, b};
    }
    const int32_t few = 1 + pairs % 3, low[] = {0, 1, 2}, high[] = {5, 7, 4};
    if (draw(f, 8, 2))
        args[n++] = (pol_swap_args){{f->host_side, 0}, C, UNITS, pairs, a, b};
    if (draw(f, 9, 2))
        args[n++] = (pol_swap_args){{f->w_gated, 0}, 2 * C, CHANNELS, few, low, high};
    if (draw(f, 10, 2))
        args[n++] = (pol_swap_args){{f->b_gated, 0}, 2, CHANNELS, few, low, high};
    assert_ok(f->ctx, pol_swap_units(f->be, args, n));
}

static pol_status project(fixture *f, int i, int64_t N)
{
    return pol_project(f->be, &(pol_project_args){.y = {f->y, 0},
                                                  .x = {f->x, 0},
                                                  .w = {i < MATRICES ? f->w[i] : f->host_side, 0},
                                                  .bias = {i < MATRICES ? f->bias[i] : NULL, 0},
                                                  .scratch = {f->scratch, 0},
                                                  .T = T,
                                                  .N = N,
                                                  .C = C});
}

static pol_status project_add(fixture *f, int i, int64_t N)
{
    return pol_project_add(f->be, &(pol_project_add_args){.x = {f->stream, 0},
                                                          .h = {f->y, 0},
                                                          .w = {f->w[i], 0},
                                                          .scratch = {f->scratch, 0},
                                                          .T = T,
                                                          .N = N,
                                                          .C = C});
}

/* Comes again and again, so it is recorded. */
static void pass(fixture *f)
{
    bool replayed;
    assert_ok(f->ctx, pol_pass_begin(f->be, "pass", 4, &replayed));
    if (!replayed) {
        pol_status s = project(f, 0, UNITS);
        if (s == POL_OK)
            s = project_add(f, 1, UNITS);
        assert_ok(f->ctx, pol_pass_end(f->be, s));
    }
    keep(f, f->stream, T * C);
}

static void embed_and_nll(fixture *f)
{
    int32_t ids[T];
    for (int t = 0; t < T; t++)
        ids[t] = (draw(f, 1, UNITS) + t) % UNITS;
    assert_ok(f->ctx, pol_upload(f->be, f->ids, 0, ids, T));
    assert_ok(f->ctx, pol_embed(f->be, &(pol_embed_args){
                                           {f->stream, 0}, {f->w[2], 0}, {f->ids, 0}, .T = T, .C = C, .V = UNITS}));
    keep(f, f->stream, T * C);
    assert_ok(f->ctx, pol_nll(f->be, &(pol_nll_args){.nll = {f->stream, 0},
                                                     .x = {f->x, 0},
                                                     .w = {f->w[1], 0},
                                                     .target = {f->ids, 0},
                                                     .scratch = {f->scratch, 0},
                                                     .T = T,
                                                     .k = 1,
                                                     .C = C,
                                                     .V = UNITS,
                                                     .slice = UNITS}));
    keep(f, f->stream, T);
    fill(f, f->stream, 30);
}

/* The memory of a matrix whose units may still move serves another. */
static void renew(fixture *f)
{
    const int i = draw(f, 1, MATRICES);
    pol_buf_free(f->be, f->w[i]);
    f->w[i] = filled(f, POL_BF16, UNITS, C, 40);
}

static void visit(fixture *f)
{
    assert_ok(f->ctx, pol_stream_in(f->be, f->host_side, f->home, f->host_side->n));
    assert_ok(f->ctx, pol_stream_wait(f->be, f->host_side));
}

static void project_swiglu(fixture *f)
{
    assert_ok(f->ctx, pol_project_swiglu(f->be, &(pol_project_swiglu_args){.h = {f->y, 0},
                                                                           .gu = {f->y, T * CHANNELS},
                                                                           .x = {f->x, 0},
                                                                           .w = {f->w_gated, 0},
                                                                           .bias = {f->b_gated, 0},
                                                                           .scratch = {f->scratch, 0},
                                                                           .T = T,
                                                                           .kept = CHANNELS - 1,
                                                                           .padded = CHANNELS,
                                                                           .C = C}));
    keep(f, f->y, T * CHANNELS);
}

/* Mostly moves, and what reads or writes what moves. A new matrix is rare: its first move waits for everything, which
 * would hide what another forgot to wait for. */
static void do_step(fixture *f)
{
    const int i = draw(f, 0, MATRICES);
    switch (draw(f, 50, 30)) {
    case 0:
    case 1:
    case 2: pass(f); break;
    case 3: embed_and_nll(f); break;
    case 4:
        if (!draw(f, 51, 3))
            renew(f);
        break;
    case 5:
    case 6: fill(f, f->w[i], 60); break;
    case 7:
    case 8: keep(f, f->w[i], f->w[i]->n); break;
    case 9:
    case 10: visit(f); break;
    case 11:
    case 12:
        assert_ok(f->ctx, project(f, MATRICES, UNITS));
        keep(f, f->y, T * UNITS);
        break;
    case 13:
    case 14:
        assert_ok(f->ctx, project_add(f, i, 1 + draw(f, 1, UNITS)));
        keep(f, f->stream, T * C);
        break;
    case 15: assert_ok(f->ctx, pol_sync(f->be)); break;
    case 16:
    case 17:
        assert_ok(f->ctx, project(f, i, 1 + draw(f, 1, UNITS)));
        keep(f, f->y, T);
        break;
    case 18:
    case 19:
    case 20: project_swiglu(f); break;
    default: swap(f); break;
    }
}

static void run(fixture *f)
{
    for (f->step = 0; f->step < STEPS; f->step++)
        do_step(f);
    for (int i = 0; i < MATRICES; i++) {
        keep(f, f->w[i], f->w[i]->n / 4);
        keep(f, f->bias[i], f->bias[i]->n);
    }
    assert_ok(f->ctx, pol_sync(f->be));
}

static void compare(pol_context *ctx, const fixture *turn, uint64_t seed, size_t move_bytes)
{
    fixture beside;
    sim_seed(seed);
    open_fixture(&beside, ctx, turn->sequence, move_bytes);
    assert_true(cu_of(beside.be)->moving != cu_of(beside.be)->compute);
    run(&beside);
    assert_int_equal(beside.n_results, turn->n_results);
    assert_memory_equal(beside.results, turn->results, (size_t)turn->n_results * sizeof(float));
    close_fixture(&beside);
    free(beside.results);
}

static void moves_beside_are_as_in_their_turn(void **state)
{
    switch_on(1, 64 << 20);
    for (uint64_t sequence = 1; sequence <= SEQUENCES; sequence++) {
        fixture turn;
        open_fixture(&turn, *state, sequence, 0);
        run(&turn);
        close_fixture(&turn);
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            compare(*state, &turn, seed, 1);
            compare(*state, &turn, seed, 4096);
        }
        free(turn.results);
    }
}

/* A mask is queued while the pass before is computed: its lists go up on another stream, and nothing is waited for. */
static void they_are_beside(void **state)
{
    enum { COMPUTE = 0, MOVING = 2 };
    fixture f;
    switch_on(1, 64 << 20);
    open_fixture(&f, *state, 1, 1);
    assert_ok(f.ctx, pol_sync(f.be));
    const int64_t lists = sim_copied_on(0, MOVING), computed = sim_copied_on(0, COMPUTE);
    sim_count_anew();
    assert_ok(f.ctx, project(&f, 0, UNITS));
    f.step = 3;
    swap(&f);
    assert_int_equal(sim_counted().waits, 0);
    assert_ok(f.ctx, pol_sync(f.be));
    assert_true(sim_copied_on(0, MOVING) > lists);
    assert_int_equal(sim_copied_on(0, COMPUTE), computed);
    close_fixture(&f);
    free(f.results);
}

/* A list takes the ring's room for itself alone, not for those that follow: all of these fit. */
static void lists_fill_no_ring(void **state)
{
    fixture f;
    pol_swap_args args[2 * MATRICES];
    int32_t a[UNITS / 2], b[UNITS / 2];
    switch_on(1, 64 << 20);
    open_fixture(&f, *state, 1, 1);
    for (int32_t i = 0; i < UNITS / 2; i++) {
        a[i] = i;
        b[i] = i + UNITS / 2;
    }
    for (int i = 0; i < MATRICES; i++) {
        args[2 * i] = (pol_swap_args){{f.w[i], 0}, C, UNITS, UNITS / 2, a, b};
        args[2 * i + 1] = (pol_swap_args){{f.bias[i], 0}, 1, UNITS, UNITS / 2, a, b};
    }
    assert_ok(f.ctx, pol_sync(f.be));
    sim_count_anew();
    assert_ok(f.ctx, pol_swap_units(f.be, args, 2 * MATRICES));
    assert_int_equal(sim_counted().waits, 0);
    close_fixture(&f);
    free(f.results);
}

/* The first of a buffer's two lists is on its way when the second fails; then its memory serves another. */
static void half_a_move_is_waited_for(void **state)
{
    enum { ROWS = 160 };
    int32_t a[ROWS / 2], b[ROWS / 2];
    for (int32_t i = 0; i < ROWS / 2; i++) {
        a[i] = i;
        b[i] = i + ROWS / 2;
    }
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        fixture f;
        pol_buf *w;
        float x[ROWS * C], y[ROWS * C];
        switch_on(1, 64 << 20);
        sim_seed(seed);
        open_fixture(&f, *state, 1, 1);
        for (int i = 0; i < ROWS * C; i++)
            x[i] = (float)(i / C);
        assert_ok(f.ctx, pol_buf_new_rows(f.be, POL_BF16, ROWS, C, &w));
        assert_true(((cu_buf *)w)->in_arena);
        assert_ok(f.ctx, pol_upload(f.be, w, 0, x, ROWS * C));
        assert_ok(f.ctx, pol_sync(f.be));
        sim_fail("cudaMemcpyAsync", 2, cudaErrorInvalidValue);
        const pol_swap_args half = {{w, 0}, C, ROWS, ROWS / 2, a, b};
        assert_int_equal(pol_swap_units(f.be, &half, 1), POL_EDEVICE);
        pol_buf_free(f.be, w);
        assert_ok(f.ctx, pol_buf_new_rows(f.be, POL_BF16, ROWS, C, &w));
        assert_ok(f.ctx, pol_upload(f.be, w, 0, x, ROWS * C));
        assert_ok(f.ctx, pol_download(f.be, w, 0, y, ROWS * C));
        assert_memory_equal(y, x, sizeof x);
        pol_buf_free(f.be, w);
        close_fixture(&f);
        free(f.results);
    }
}

/* Where the time of ops is told, units move in their turn: the stream that is timed does all. */
static void they_are_timed_in_their_turn(void **state)
{
    cu_profile use;
    pol_backend *be;
    switch_on(1, 64 << 20);
    assert_ok(*state, cu_profile_of(*state, 0, &use));
    assert_true(use.move_bytes > 0);
    use.timing = true;
    assert_ok(*state, pol_cuda_open(*state, 0, &use, &be));
    assert_ptr_equal(cu_of(be)->moving, cu_of(be)->compute);
    pol_backend_close(be);
    assert_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves_beside_are_as_in_their_turn),
        cmocka_unit_test(they_are_beside),
        cmocka_unit_test(lists_fill_no_ring),
        cmocka_unit_test(half_a_move_is_waited_for),
        cmocka_unit_test(they_are_timed_in_their_turn),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}

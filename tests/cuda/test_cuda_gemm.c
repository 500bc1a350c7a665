/* test_cuda_gemm.c - how products are computed: chosen once for a shape, kept in bounded room, refused with a sentence;
 * and which product is fused with its activation. */
#include "tests/cuda/profiles.h"

static int setup(void **state)
{
    switch_on(1, 64 << 20);
    return test_context_open(state);
}

enum { MOST = 96, ROOM = MOST * MOST };

/* Matrices of ones, of which any product is its inner size. */
typedef struct fixture {
    pol_context *ctx;
    pol_backend *be;
    pol_buf *x, *w, *y, *sum, *scratch;
} fixture;

static pol_buf *ones(fixture *f, pol_dtype dtype, int64_t n)
{
    pol_buf *b;
    float *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = 1;
    assert_ok(f->ctx, pol_buf_new(f->be, dtype, n, &b));
    assert_ok(f->ctx, pol_upload(f->be, b, 0, x, n));
    free(x);
    return b;
}

static fixture open_products(pol_context *ctx, const test_profile *p)
{
    fixture f = {.ctx = ctx, .be = open_profile(ctx, p)};
    f.x = ones(&f, POL_BF16, ROOM);
    f.w = ones(&f, POL_BF16, ROOM);
    f.y = ones(&f, POL_BF16, ROOM);
    f.sum = ones(&f, POL_F32, ROOM);
    f.scratch = ones(&f, POL_F32, pol_gemm_scratch(f.be, MOST, MOST, MOST));
    sim_count_anew();
    return f;
}

static void close_products(fixture *f)
{
    pol_buf *const all[] = {f->x, f->w, f->y, f->sum, f->scratch};
    for (size_t i = 0; i < POL_COUNT(all); i++)
        pol_buf_free(f->be, all[i]);
    pol_backend_close(f->be);
    assert_clean();
}

static pol_status project(fixture *f, int64_t T, int64_t N, int64_t K, int64_t at)
{
    return pol_project(
        f->be,
        &(pol_project_args){
            .y = {f->y, 0}, .x = {f->x, at}, .w = {f->w, 0}, .scratch = {f->scratch, 0}, .T = T, .N = N, .C = K});
}

static pol_status project_add(fixture *f, int64_t T, int64_t N, int64_t K)
{
    return pol_project_add(
        f->be,
        &(pol_project_add_args){
            .x = {f->sum, 0}, .h = {f->x, 0}, .w = {f->w, 0}, .scratch = {f->scratch, 0}, .T = T, .N = K, .C = N});
}

static int64_t choices(void) { return sim_calls("cublasLtMatmulAlgoGetHeuristic"); }

static void a_shape_is_chosen_for_once(void **state)
{
    fixture f = open_products(*state, &test_profiles[0]);
    for (int i = 0; i < 5; i++)
        assert_ok(f.ctx, project(&f, 8, 64, 32, 0));
    assert_int_equal(choices(), 1);
    for (int i = 0; i < 5; i++) {
        assert_ok(f.ctx, project(&f, 8, 64, 40, 0));
        assert_ok(f.ctx, project_add(&f, 8, 64, 40));
        assert_ok(f.ctx, project(&f, 8, 64, 32, 1)); /* where x cannot be read as wide */
        assert_ok(f.ctx, project(&f, 64, 8, 32, 0));
    }
    assert_int_equal(choices(), 5);
    assert_int_equal(sim_calls("cublasLtMatmul"), 25);
    assert_int_equal(sim_counted().waits, 0);
    close_products(&f);
}

/* Products of all small sizes, odd ones too: more than are kept. */
static void all_sizes_are_served(void **state)
{
    enum { SIZES = 12 };
    fixture f = open_products(*state, &test_profiles[0]);
    float y[SIZES * SIZES], sum[SIZES * SIZES], want[SIZES * SIZES] = {0};
    assert_ok(f.ctx, pol_upload(f.be, f.sum, 0, want, SIZES * SIZES));
    for (int64_t T = 1; T <= SIZES; T++)
        for (int64_t N = 1; N <= SIZES; N++)
            for (int64_t K = 1; K <= SIZES; K++) {
                assert_ok(f.ctx, project(&f, T, N, K, 0));
                assert_ok(f.ctx, project_add(&f, T, N, K));
                assert_ok(f.ctx, pol_download_later(f.be, f.sum, 0, sum, T * N));
                assert_ok(f.ctx, pol_download(f.be, f.y, 0, y, T * N));
                for (int64_t i = 0; i < T * N; i++) {
                    want[i] += (float)K;
                    assert_true(y[i] == (float)K && sum[i] == want[i]);
                }
            }
    assert_true(choices() >= 2 * SIZES * SIZES * SIZES);
    close_products(&f);
}

static void a_product_that_is_refused_is_named(void **state)
{
    fixture f = open_products(*state, &test_profiles[0]);
    float y;
    sim_fail("cublasLtMatmulAlgoGetHeuristic", 1, CUBLAS_STATUS_NOT_SUPPORTED);
    assert_fails(f.ctx, project(&f, 3, 5, 7, 0), POL_EDEVICE,
                 "cuda: project, a product of 3 x 5 x 7: cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_NOT_SUPPORTED "
                 "(15): cuBLASLt has no way");
    sim_fail("cublasLtMatmul", 1, CUBLAS_STATUS_EXECUTION_FAILED);
    assert_fails(f.ctx, project_add(&f, 3, 5, 7), POL_EDEVICE,
                 "project_add, a product of 3 x 5 x 7: cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED (13)");
    sim_fail("cublasLtMatrixLayoutCreate", 3, CUBLAS_STATUS_ALLOC_FAILED);
    assert_fails(f.ctx, project(&f, 4, 5, 7, 0), POL_ENOMEM, "cublasLtMatrixLayoutCreate: CUBLAS_STATUS_ALLOC_FAILED");
    assert_ok(f.ctx, project(&f, 3, 5, 7, 0)); /* and that is all */
    assert_ok(f.ctx, pol_download(f.be, f.y, 14, &y, 1));
    assert_true(y == 7);
    close_products(&f);
}

static pol_status gated(fixture *f, int64_t T, int64_t padded)
{
    return pol_project_swiglu(f->be, &(pol_project_swiglu_args){.h = {f->y, 0},
                                                                .gu = {f->x, ROOM / 2},
                                                                .x = {f->x, 0},
                                                                .w = {f->w, 0},
                                                                .scratch = {f->scratch, 0},
                                                                .T = T,
                                                                .kept = padded,
                                                                .padded = padded,
                                                                .C = 8});
}

/* Small products are fused, large ones are cuBLASLt's; the profile may say otherwise. */
static void products_are_fused_by_size(void **state)
{
    pol_context *ctx = *state;
    cu_profile use;
    assert_ok(ctx, cu_profile_of(ctx, 0, &use));
    for (int multiprocessors = 1; multiprocessors <= 2; multiprocessors++)
        for (int fuse = CU_FUSE_AUTO; fuse <= CU_FUSE_NEVER; fuse++) {
            fixture f = {.ctx = ctx};
            use.multiprocessors = multiprocessors;
            use.fuse = fuse;
            assert_ok(ctx, pol_cuda_open(ctx, 0, &use, &f.be));
            f.x = ones(&f, POL_BF16, ROOM);
            f.w = ones(&f, POL_BF16, ROOM);
            f.y = ones(&f, POL_BF16, ROOM);
            f.sum = ones(&f, POL_F32, 1);
            f.scratch = ones(&f, POL_F32, pol_gemm_scratch(f.be, MOST, MOST, MOST));
            sim_count_anew();
            assert_ok(ctx, gated(&f, 4, 64));
            const bool fused = sim_calls("cublasLtMatmul") == 0;
            assert_int_equal(fused, fuse == CU_FUSE_ALWAYS || (fuse == CU_FUSE_AUTO && multiprocessors > 1));
            assert_int_equal(sim_counted().launches, fused ? 1 : 2);
            sim_count_anew();
            assert_ok(ctx, gated(&f, 4, 65)); /* one tile more */
            assert_int_equal(sim_calls("cublasLtMatmul") == 0, fuse == CU_FUSE_ALWAYS);
            close_products(&f);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shape_is_chosen_for_once),
        cmocka_unit_test(all_sizes_are_served),
        cmocka_unit_test(a_product_that_is_refused_is_named),
        cmocka_unit_test(products_are_fused_by_size),
    };
    return cmocka_run_group_tests(tests, setup, test_context_close);
}

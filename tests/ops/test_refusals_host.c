/* test_refusals_host.c - calls of the ops on host arrays outside the contract, each with its exact code. */
#include <math.h>

#include "core/backend.h"
#include "tests/ops/refused.h"

static pol_context *ctx;
static pol_backend *be;

static int setup(void **state)
{
    (void)state;
    return pol_context_new(NULL, &ctx) == POL_OK && pol_backend_open_host(ctx, 1, &be) == POL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(be->bytes_in_use, 0);
    pol_backend_close(be);
    pol_context_free(ctx);
    return 0;
}

static void test_solve_spd(void **state)
{
    (void)state;
    double x[4] = {2, 0, 1, 2}, y[2] = {1, 1};
    pol_solve_spd_args a = {.N = 2, .M = 1, .a = x, .b = y};
    REFUSED(pol_solve_spd, a, N = 0, POL_EARG, "solve_spd: N: 0 is below 1");
    REFUSED(pol_solve_spd, a, M = 0, POL_EARG, "solve_spd: M");
    REFUSED(pol_solve_spd, a, damping = -1, POL_EARG, "solve_spd: damping: -1");
    REFUSED(pol_solve_spd, a, damping = NAN, POL_EARG, "solve_spd: damping: ");
    REFUSED(pol_solve_spd, a, damping = INFINITY, POL_EARG, "solve_spd: damping: inf");
    REFUSED(pol_solve_spd, a, a = NULL, POL_EARG, "solve_spd: a: no array");
    REFUSED(pol_solve_spd, a, b = NULL, POL_EARG, "solve_spd: b: no array");
    REFUSED(pol_solve_spd, a, b = x + 3, POL_EARG, "solve_spd: a overlaps b");
    REFUSED(pol_solve_spd, a, N = INT64_MAX / 2, POL_ESHAPE, "solve_spd: a: more elements than memory can hold");
    assert_ok(ctx, pol_solve_spd(be, &a));
}

static void test_obs_sweep(void **state)
{
    (void)state;
    enum { UNITS = 3, UNIT = 2, N = UNITS * UNIT, C = 2 };
    double h[N * N] = {0}, error[UNITS];
    float w[N * C] = {1}, rows[2][N * C], *to[2] = {rows[0], rows[1]};
    int32_t order[UNITS] = {0, 1, 2}, twice[UNITS] = {2, 1, 2}, outside[UNITS] = {0, 3, 1},
            negative[UNITS] = {-1, 0, 1};
    const int64_t level[] = {1, 3}, zero[] = {0, 3}, falling[] = {2, 2}, high[] = {1, 4};
    float *none[2] = {rows[0], NULL}, *same[2] = {rows[0], rows[0] + UNIT * C - 1}, *in_w[2] = {rows[0], w};
    for (int i = 0; i < N; i++)
        h[i * N + i] = 1;
    pol_obs_sweep_args a = {.n_units = UNITS,
                            .unit = UNIT,
                            .C = C,
                            .block = 1,
                            .h = h,
                            .w = w,
                            .order = order,
                            .error = error,
                            .n_levels = 2,
                            .level = level,
                            .rows = to};
    assert_ok(ctx, pol_obs_sweep(be, &a));
    REFUSED(pol_obs_sweep, a, n_units = 0, POL_EARG, "obs_sweep: n_units: 0 is below 1");
    REFUSED(pol_obs_sweep, a, n_units = INT64_C(1) << 31, POL_EARG, "obs_sweep: n_units: 2147483648");
    REFUSED(pol_obs_sweep, a, unit = 0, POL_EARG, "obs_sweep: unit");
    REFUSED(pol_obs_sweep, a, unit = INT64_MAX / 2, POL_ESHAPE, "obs_sweep: h: more elements than memory can hold");
    REFUSED(pol_obs_sweep, a, C = 0, POL_EARG, "obs_sweep: C");
    REFUSED(pol_obs_sweep, a, block = 0, POL_EARG, "obs_sweep: block");
    REFUSED(pol_obs_sweep, a, damping = -0.5, POL_EARG, "obs_sweep: damping: -0.5");
    REFUSED(pol_obs_sweep, a, damping = NAN, POL_EARG, "obs_sweep: damping");
    REFUSED(pol_obs_sweep, a, h = NULL, POL_EARG, "obs_sweep: h: no array");
    REFUSED(pol_obs_sweep, a, w = NULL, POL_EARG, "obs_sweep: w: no array");
    REFUSED(pol_obs_sweep, a, order = NULL, POL_EARG, "obs_sweep: order: no array");
    REFUSED(pol_obs_sweep, a, error = NULL, POL_EARG, "obs_sweep: error: no array");
    REFUSED(pol_obs_sweep, a, error = h + 1, POL_EARG, "obs_sweep: error overlaps h");
    REFUSED(pol_obs_sweep, a, loss = h, POL_EARG, "obs_sweep: loss overlaps h");
    REFUSED(pol_obs_sweep, a, loss = error, POL_EARG, "obs_sweep: loss overlaps error");
    REFUSED(pol_obs_sweep, a, n_levels = -1, POL_EARG, "obs_sweep: n_levels");
    REFUSED(pol_obs_sweep, a, level = NULL, POL_EARG, "obs_sweep: level: no array");
    REFUSED(pol_obs_sweep, a, rows = NULL, POL_EARG, "obs_sweep: rows: no array");
    REFUSED(pol_obs_sweep, a, level = zero, POL_EARG, "obs_sweep: level 0: 0 is not between 1 and 3");
    REFUSED(pol_obs_sweep, a, level = falling, POL_EARG, "obs_sweep: level 1: 2 is not between 3 and 3");
    REFUSED(pol_obs_sweep, a, level = high, POL_EARG, "obs_sweep: level 1: 4 is not between 2 and 3");
    REFUSED(pol_obs_sweep, a, rows = none, POL_EARG, "obs_sweep: rows: no array");
    REFUSED(pol_obs_sweep, a, rows = same, POL_EARG, "obs_sweep: the rows of levels 0 and 1 overlap");
    REFUSED(pol_obs_sweep, a, rows = in_w, POL_EARG, "obs_sweep: rows overlaps w");
    a.ordered = true;
    assert_ok(ctx, pol_obs_sweep(be, &a));
    REFUSED(pol_obs_sweep, a, order = twice, POL_EARG, "obs_sweep: order: place 2: unit 2 is named twice");
    REFUSED(pol_obs_sweep, a, order = outside, POL_EARG, "obs_sweep: order: place 1: unit 3 is not one of 3");
    REFUSED(pol_obs_sweep, a, order = negative, POL_EARG, "obs_sweep: order: place 0: unit -1");
}

/* A device without them says so. */
static void test_repair_elsewhere(void **state)
{
    (void)state;
    const pol_ops *const own = be->ops;
    pol_ops without = *own;
    without.solve_spd = NULL;
    without.obs_sweep = NULL;
    be->ops = &without;
    double x = 1, y = 1;
    float w = 1;
    int32_t order;
    assert_false(pol_can_repair(be));
    assert_fails(ctx, pol_solve_spd(be, &(pol_solve_spd_args){.N = 1, .M = 1, .a = &x, .b = &y}), POL_EUNSUPPORTED,
                 "solve_spd: the cpu backend has none");
    assert_fails(
        ctx,
        pol_obs_sweep(be,
                      &(pol_obs_sweep_args){
                          .n_units = 1, .unit = 1, .C = 1, .block = 1, .h = &x, .w = &w, .order = &order, .error = &y}),
        POL_EUNSUPPORTED, "obs_sweep: the cpu backend has none");
    be->ops = own;
    assert_true(pol_can_repair(be));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_solve_spd),
        cmocka_unit_test(test_obs_sweep),
        cmocka_unit_test(test_repair_elsewhere),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

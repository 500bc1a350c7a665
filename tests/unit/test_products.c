/* test_products.c - the products of a pass: as much work as the model's shape says, however it is cut. */
#include "core/products.h"
#include "tests/test.h"

static const int64_t T = 96;

static pol_config shape(void)
{
    pol_config c = {
        .n_layers = 3, .hidden = 40, .heads_per_group = 3, .head_dim = 8, .n_groups = 5, .ffn = 56, .vocab = 101};
    c.layers[0] = (pol_layer_shape){5, 56};
    c.layers[1] = (pol_layer_shape){0, 17};
    c.layers[2] = (pol_layer_shape){2, 0};
    return c;
}

static double work(const pol_products *p)
{
    double flops = 0;
    for (int64_t i = 0; i < p->n; i++)
        flops += (double)p->list[i].times * pol_product_flops(&p->list[i]);
    return flops;
}

static int64_t times(const pol_products *p, pol_product like)
{
    for (int64_t i = 0; i < p->n; i++) {
        const pol_product *q = &p->list[i];
        if (q->add == like.add && q->T == like.T && q->N == like.N && q->K == like.K)
            return q->times;
    }
    return 0;
}

static void they_are_the_models_work(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = shape();
    for (int64_t slice = 1; slice < 110; slice += 9) {
        const pol_backend be = {.width_tile = 1, .nll_slice = slice};
        pol_products p = {.ctx = ctx};
        assert_ok(ctx, pol_products_add(&p, &c, &be, T, 1));
        assert_near(work(&p), 2.0 * (double)T * (double)pol_config_macs(&c), 0);
        pol_products_free(&p);
    }
}

static void each_is_there_in_its_form(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = shape();
    const pol_backend be = {.width_tile = 8, .nll_slice = 50};
    pol_products p = {.ctx = ctx};
    assert_ok(ctx, pol_products_add(&p, &c, &be, T, 1));
    assert_ok(ctx, pol_products_add(&p, &c, &be, T, 10));
    assert_int_equal(times(&p, (pol_product){false, T, 5 * 5 * 8, 40, 0}), 11); /* q, k and v of layer 0 */
    assert_int_equal(times(&p, (pol_product){true, T, 40, 5 * 3 * 8, 0}), 11);  /* o */
    assert_int_equal(times(&p, (pol_product){false, T, 2 * 56, 40, 0}), 11);    /* gate and up */
    assert_int_equal(times(&p, (pol_product){true, T, 40, 56, 0}), 11);         /* down */
    assert_int_equal(times(&p, (pol_product){false, T, 2 * 24, 40, 0}), 11);    /* of layer 1, padded */
    assert_int_equal(times(&p, (pol_product){true, T, 40, 2 * 3 * 8, 0}), 11);  /* o of layer 2 */
    assert_int_equal(times(&p, (pol_product){false, T, 50, 40, 0}), 22);        /* two slices of the vocabulary */
    assert_int_equal(times(&p, (pol_product){false, T, 1, 40, 0}), 11);         /* and what is left of it */
    assert_int_equal(p.n, 10);
    pol_products_free(&p);
}

static void of_a_job_all_passes_have_the_same_tokens(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = shape();
    pol_config left = c;
    const pol_backend be = {.width_tile = 1, .nll_slice = 64};
    left.layers[0] = (pol_layer_shape){2, 20};
    pol_products p = {.ctx = ctx};
    assert_ok(ctx,
              pol_products_of_job(&(pol_tune_job){.dense = &c, .masked = &left, .batch = 4, .seq_len = 24}, &be, &p));
    assert_near(work(&p), 2.0 * (double)T * (double)(pol_config_macs(&c) + 2 * pol_config_macs(&left)), 0);
    assert_int_equal(times(&p, (pol_product){true, 24, 40, 20, 0}), 4);
    assert_int_equal(times(&p, (pol_product){true, T, 40, 20, 0}), 1);
    pol_products_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_the_models_work),
        cmocka_unit_test(each_is_there_in_its_form),
        cmocka_unit_test(of_a_job_all_passes_have_the_same_tokens),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}

/* test_shares.c - how passes are shared out among pilot and stages. */
#include "core/run/run.h"
#include "tests/test.h"

static const pol_units units = {
    .n_layers = 10,
    .n_of = {[POL_UNIT_GROUP] = 20, [POL_UNIT_CHANNEL] = 480, [POL_UNIT_ATTENTION] = 10, [POL_UNIT_MLP] = 10}};

static pol_prune_settings shared(pol_context *ctx, int64_t passes, const pol_units *u)
{
    pol_prune_settings o;
    pol_prune_defaults(POL_METHOD_ALLOCATION, &o);
    o.pilot = false;
    o.passes = passes;
    assert_ok(ctx, pol_prune_share_out(ctx, &o, NULL));
    assert_ok(ctx, pol_prune_share_out(ctx, &o, u));
    assert_int_equal(o.stage_passes[0] + o.stage_passes[1] + o.stage_passes[2], passes);
    return o;
}

static void expect(const pol_prune_settings *o, int64_t allocation, int64_t blocks, int64_t units_)
{
    assert_int_equal(o->stage_passes[POL_STAGE_ALLOCATION], allocation);
    assert_int_equal(o->stage_passes[POL_STAGE_BLOCKS], blocks);
    assert_int_equal(o->stage_passes[POL_STAGE_UNITS], units_);
    for (int i = 0; i < POL_STAGES; i++)
        assert_int_equal(o->stage_steps[i], o->stage_passes[i] / 16);
}

/* One forward sequence a unit: 500 of 3334. Four a block: 80, which 2000 have; of 100 blocks 400, of 2667. */
static void test_later_stages_need_enough(void **state)
{
    pol_context *ctx = *state;
    pol_prune_settings o = shared(ctx, 3333, &units);
    expect(&o, 3333 - 499, 499, 0);
    o = shared(ctx, 3334, &units);
    expect(&o, 3334 - 1000, 500, 500);
    pol_units many = units;
    many.n_of[POL_UNIT_ATTENTION] = many.n_of[POL_UNIT_MLP] = 50;
    o = shared(ctx, 2666, &many);
    expect(&o, 2666, 0, 0);
    o = shared(ctx, 2667, &many);
    expect(&o, 2667 - 400, 400, 0);
    o = shared(ctx, 1999, &units);
    expect(&o, 1999, 0, 0);
    o = shared(ctx, 1000000, NULL);
    expect(&o, 700000, 150000, 150000);
}

/* Units of kinds that stay count for nothing. */
static void test_variables(void **state)
{
    pol_context *ctx = *state;
    pol_prune_settings o = shared(ctx, 2000, &units);
    assert_int_equal(pol_prune_variables(&o, &units, POL_STAGE_ALLOCATION), 20);
    assert_int_equal(pol_prune_variables(&o, &units, POL_STAGE_BLOCKS), 20);
    assert_int_equal(pol_prune_variables(&o, &units, POL_STAGE_UNITS), 500);
    o.granularity = POL_HEADS;
    assert_int_equal(pol_prune_variables(&o, &units, POL_STAGE_ALLOCATION), 10);
    assert_int_equal(pol_prune_variables(&o, &units, POL_STAGE_UNITS), 20);
}

static void test_pilot(void **state)
{
    pol_context *ctx = *state;
    pol_prune_settings o;
    pol_prune_defaults(POL_METHOD_UNITS, &o);
    o.passes = 2559;
    assert_ok(ctx, pol_prune_share_out(ctx, &o, NULL));
    assert_int_equal(o.sized, 0);
    pol_prune_defaults(POL_METHOD_UNITS, &o);
    o.passes = 2560;
    assert_ok(ctx, pol_prune_share_out(ctx, &o, NULL));
    assert_int_equal(o.sized, POL_SIZED_MASKS | POL_SIZED_SEQUENCES | POL_SIZED_RATE);
    assert_int_equal(o.stage_passes[POL_STAGE_UNITS], 2560 - 256);
    assert_int_equal(pol_prune_draws(&o), (2560 - 256) / 8); /* 8 masks a step at least */
    /* Chosen: settled again, the choice stays. */
    o.learn.mask_samples = 8;
    o.learn.sequences_per_mask = 2;
    assert_ok(ctx, pol_prune_share_out(ctx, &o, &units));
    assert_int_equal(o.learn.mask_samples, 8);
    assert_int_equal(o.learn.steps, (2560 - 256) / 16);
    assert_true(o.learn.steps * o.learn.sequences_per_mask <= pol_prune_draws(&o));
    o.learn.shared_sequences = false;
    assert_int_equal(pol_prune_draws(&o), 2560 - 256);
    pol_prune_defaults(POL_METHOD_REFERENCE, &o);
    assert_ok(ctx, pol_prune_share_out(ctx, &o, NULL));
    assert_int_equal(o.sized, 0);
    assert_int_equal(o.learn.steps, 15000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_later_stages_need_enough),
        cmocka_unit_test(test_variables),
        cmocka_unit_test(test_pilot),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}

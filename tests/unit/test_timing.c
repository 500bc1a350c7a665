/* test_timing.c - measuring the table of times: on a backend whose blocks take known times, some of them disturbed, and
 * on the CPU's own. */
#include <math.h>
#include <time.h>

#include "core/backend.h"
#include "core/mask/timing.h"
#include "core/run/timing.h"
#include "tests/loaded_model.h"

enum { B = 2, S = 16 };

/* The CPU's ops, with waits: so much a group in attention, a channel in an MLP, a call of the embedding. */
static struct {
    pol_ops ops;
    const pol_ops *real;
    int64_t calls, stop_at;           /* of MLPs; the call before which a stop is asked for, 0: none */
    int64_t groups[8], channels[128]; /* calls by the number of units */
} slow;

static const double GROUP_MS = 0.4, CHANNEL_MS = 0.02, REST_MS = 2, DISTURBED_MS = 20;

static void wait_ms(double ms)
{
    const struct timespec t = {.tv_nsec = (long)(1e6 * ms)};
    nanosleep(&t, NULL);
}

static pol_status slow_attention(pol_backend *be, const pol_attention_args *a)
{
    slow.groups[a->G]++;
    wait_ms(GROUP_MS * (double)a->G);
    return slow.real->attention(be, a);
}

/* Some calls are held up by something else: fewer than every other measurement has one of them. */
static pol_status slow_mlp(pol_backend *be, const pol_swiglu_args *a)
{
    if (++slow.calls == slow.stop_at)
        pol_context_stop(be->ctx);
    slow.channels[a->kept]++;
    wait_ms(slow.calls % 151 ? CHANNEL_MS * (double)a->kept : DISTURBED_MS);
    return slow.real->swiglu(be, a);
}

static pol_status slow_embed(pol_backend *be, const pol_embed_args *a)
{
    wait_ms(REST_MS);
    return slow.real->embed(be, a);
}

static void open_slow(loaded *m, pol_context *ctx)
{
    pol_backend *be = open_cpu(ctx);
    memset(&slow, 0, sizeof slow);
    slow.real = be->ops;
    slow.ops = *be->ops;
    slow.ops.attention = slow_attention;
    slow.ops.swiglu = slow_mlp;
    slow.ops.project_swiglu = NULL; /* core composes it */
    slow.ops.embed = slow_embed;
    be->ops = &slow.ops;
    load_placed(m, ctx, be, test_file("models/trained"), NULL, B, S);
}

/* At least what was waited, and no multiple of it but for what a busy machine adds. */
static void check_time(double ms, double waited) { assert_true(ms >= waited && ms <= 2 * waited + 2); }

static void test_known_times(void **state)
{
    pol_context *ctx = *state;
    loaded m;
    pol_timing t;
    open_slow(&m, ctx);
    const pol_config *c = pol_model_config(m.model);
    assert_ok(ctx, pol_timing_measure(m.forward, B, S, &t));
    assert_int_equal(t.batch, B);
    assert_int_equal(t.seq_len, S);
    assert_int_equal(t.n[POL_UNIT_GROUP], c->n_groups);
    assert_int_equal(t.n[POL_UNIT_CHANNEL], 17);
    for (int64_t i = 0; i < t.n[POL_UNIT_GROUP]; i++) {
        assert_int_equal(t.point[POL_UNIT_GROUP][i].units, i + 1);
        check_time(t.point[POL_UNIT_GROUP][i].ms, GROUP_MS * (double)(i + 1));
    }
    for (int64_t i = 0; i < 17; i++) {
        const int64_t units = i ? i * c->ffn / 16 : 1;
        assert_int_equal(t.point[POL_UNIT_CHANNEL][i].units, units);
        check_time(t.point[POL_UNIT_CHANNEL][i].ms, CHANNEL_MS * (double)units);
    }
    /* Nothing but those counts was timed, each at least twice to warm up and seven times. */
    for (int n = 0, point = 0; n < 128; n++) {
        const bool timed = point < 17 && t.point[POL_UNIT_CHANNEL][point].units == n;
        assert_true(timed ? slow.channels[n] >= 9 : slow.channels[n] == 0);
        point += timed;
    }
    for (int n = 0; n < 8; n++)
        assert_true(n >= 1 && n <= t.n[POL_UNIT_GROUP] ? slow.groups[n] >= 9 : slow.groups[n] == 0);
    check_time(t.rest, REST_MS);
    assert_ok(ctx, pol_timing_check(ctx, POL_EARG, "measured", &t));
    unload(&m);
}

static void test_stop(void **state)
{
    pol_context *ctx = *state;
    loaded m;
    pol_timing t;
    open_slow(&m, ctx);
    slow.stop_at = 40;
    assert_fails(ctx, pol_timing_measure(m.forward, B, S, &t), POL_EINTERRUPTED, "");
    assert_true(slow.calls < 300); /* soon: at the end of the measurement under way, which has 256 runs at most */
    pol_context_resume(ctx);
    unload(&m);
}

/* A model is as it was; passes that do not fit are refused. */
static void test_the_model_stays(void **state)
{
    pol_context *ctx = *state;
    loaded m;
    pol_timing t;
    load_placed(&m, ctx, open_cpu(ctx), test_file("models/llama-gqa-tied"), NULL, B, S);
    uint8_t *mask = malloc((size_t)m.units->n);
    double before[B], after[B];
    random_mask(m.units, 1, mask);
    assert_ok(ctx, pol_model_set_mask(m.model, mask));
    assert_ok(ctx, pol_forward_nll(m.forward, m.ids, B, S, NULL, before));
    assert_ok(ctx, pol_timing_measure(m.forward, B, S, &t));
    assert_true(t.rest > 0);
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < t.n[k]; i++)
            assert_true(t.point[k][i].ms > 0);
    assert_ok(ctx, pol_forward_nll(m.forward, m.ids, B, S, NULL, after));
    assert_memory_equal(before, after, sizeof before);
    assert_fails(ctx, pol_timing_measure(m.forward, B + 1, S, &t), POL_EARG, "do not fit");
    assert_fails(ctx, pol_timing_measure(m.forward, 1, S + 1, &t), POL_EARG, "do not fit");
    free(mask);
    unload(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_times),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_the_model_stays),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}

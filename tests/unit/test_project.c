/* test_project.c - the projection onto the budget, against bisection in long double and against what defines it. */
#include <math.h>

#include "core/mask/budget.h"
#include "core/mask/joint.h"
#include "tests/test.h"
#include "toy.h"

/* One problem: the units that move, with the costs of mask.h (1, or parameters over their mean), and where they lie. */
typedef struct reference {
    int64_t n;
    int64_t unit[1200];
    long double s[1200], cost[1200];
    long double budget, mean; /* mean: parameters that a cost of 1 stands for */
} reference;

static long double clip(long double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

static long double cost_at(const reference *r, long double v)
{
    long double sum = 0;
    for (int64_t i = 0; i < r->n; i++)
        sum += r->cost[i] * clip(r->s[i] - v * r->cost[i]);
    return sum;
}

static long double bisect(const reference *r)
{
    if (cost_at(r, 0) <= r->budget)
        return 0;
    long double lo = 0, hi = 0;
    for (int64_t i = 0; i < r->n; i++)
        hi = fmaxl(hi, r->s[i] / r->cost[i]);
    for (int k = 0; k < 200; k++) {
        const long double mid = lo + (hi - lo) / 2;
        if (cost_at(r, mid) <= r->budget)
            hi = mid;
        else
            lo = mid;
    }
    return hi;
}

static reference reference_of(const pol_distribution *d, unsigned kinds, const pol_budget *b, pol_unit_kind kind)
{
    const pol_units *u = d->units;
    const bool joint = b->mode == POL_BUDGET_JOINT;
    reference r = {.mean = 1};
    long double all = 0, moved = 0;
    for (int64_t k = 0; k < u->n_sections; k++)
        for (int64_t i = 0; i < u->sections[k].count && (kinds >> u->sections[k].kind & 1); i++) {
            r.unit[r.n] = u->sections[k].first + i;
            r.s[r.n] = d->s[r.unit[r.n]];
            r.cost[r.n++] = joint ? u->sections[k].params : 1;
            moved += u->sections[k].params;
        }
    if (joint) {
        r.mean = moved / r.n;
        for (int64_t i = 0; i < r.n; i++)
            r.cost[i] /= r.mean;
        all = pol_mask_params(u, NULL);
        r.budget = ((long double)b->keep_params * all - (all - moved)) / r.mean;
    } else {
        r.budget = (long double)b->keep[kind] * r.n;
    }
    return r;
}

/* Inputs of all sorts: fine and coarse values, at the bounds, beyond them. */
static void fill(toy_random *random, pol_distribution *d, int sort)
{
    for (int64_t k = 0; k < d->units->n_sections; k++) {
        const pol_section *sec = &d->units->sections[k];
        for (int64_t i = sec->first; (d->granularity >> sec->kind & 1) && i < sec->first + sec->count; i++) {
            const double x = toy_uniform(random);
            switch (sort % 6) {
            case 0: d->s[i] = (float)x; break;
            case 1: d->s[i] = (float)floor(x * 5) / 4; break;         /* ties, both bounds */
            case 2: d->s[i] = (float)(4 * x - 1.5); break;            /* below 0 and above 1 */
            case 3: d->s[i] = x < 0.5 ? 0 : 1; break;                 /* bounds only */
            case 4: d->s[i] = (float)(floor(x * 9) / 4 - 0.5); break; /* coarse and beyond */
            case 5: d->s[i] = (float)pow(x, 20); break;               /* many close to 0 */
            }
        }
    }
}

/* The conditions of Karush, Kuhn and Tucker for x as the nearest point; x is float. */
static void check_kkt(const reference *r, const float *x, long double v)
{
    long double cost = 0;
    for (int64_t i = 0; i < r->n; i++) {
        const long double free_value = r->s[i] - v * r->cost[i];
        const float xi = x[r->unit[i]];
        assert_true(xi >= 0 && xi <= 1);
        if (xi == 0)
            assert_true(free_value <= 1e-7L);
        else if (xi == 1)
            assert_true(free_value >= 1 - 1e-7L);
        else
            assert_near((double)(xi - free_value), 0, 1e-7);
        cost += r->cost[i] * xi;
    }
    assert_true(v >= 0);
    assert_true(cost <= r->budget * (1 + 1e-6L) + 1e-6L);
    if (v > 0)
        assert_near((double)(cost - r->budget), 0, 1e-6 * (double)r->budget + 1e-6);
}

static void check_projection(pol_context *ctx, toy_random *random, pol_distribution *d, unsigned kinds,
                             const pol_budget *b, pol_unit_kind kind)
{
    const pol_units *u = d->units;
    const reference r = reference_of(d, kinds, b, kind);
    const long double v = bisect(&r);
    double got;
    assert_ok(ctx, pol_budget_shift(d, b, kind, &got));
    got *= (double)r.mean;

    float *before = malloc((size_t)u->n * sizeof *before), *once = malloc((size_t)u->n * sizeof *once);
    memcpy(before, d->s, (size_t)u->n * sizeof *before);
    assert_ok(ctx, pol_project_budget(d, b));
    check_kkt(&r, d->s, got);
    bool interior = false;
    for (int64_t i = 0; i < r.n; i++) {
        const long double x = clip(r.s[i] - v * r.cost[i]);
        assert_near(d->s[r.unit[i]], (double)x,
                    6e-8); /* half a unit in the last place of a float near 1, and v's own error */
        interior |= x > 1e-9L && x < 1 - 1e-9L;
    }
    if (interior || v == 0) /* else a whole interval of v gives the same point */
        assert_near(got, (double)v, 4e-14 * (1 + (double)v) * sqrt((double)r.n));

    /* A unit outside the moved kinds keeps its value to the bit. */
    for (int64_t k = 0; k < u->n_sections; k++)
        for (int64_t i = u->sections[k].first; i < u->sections[k].first + u->sections[k].count; i++)
            if (!(d->granularity >> u->sections[k].kind & 1))
                assert_true(d->s[i] == before[i]);

    /* No feasible point is nearer: random ones, pulled towards the projection so that they come close. */
    for (int t = 0; t < 3; t++) {
        reference y = r;
        const long double pull = toy_uniform(random);
        for (int64_t i = 0; i < r.n; i++)
            y.s[i] = pull * clip(toy_uniform(random) * 2 - 0.5) + (1 - pull) * d->s[r.unit[i]];
        const long double scale = fminl(1, r.budget / fmaxl(cost_at(&y, 0), 1e-30L));
        long double ours = 0, theirs = 0;
        for (int64_t i = 0; i < r.n; i++) {
            ours += (d->s[r.unit[i]] - r.s[i]) * (d->s[r.unit[i]] - r.s[i]);
            theirs += (scale * y.s[i] - r.s[i]) * (scale * y.s[i] - r.s[i]);
        }
        assert_true(ours <= theirs * (1 + 1e-6L) + 1e-6L);
    }

    /* Once more changes nothing but what rounding to float left over the budget: at most 2^-25 a unit, taken off at the
     * cost's slope. */
    memcpy(once, d->s, (size_t)u->n * sizeof *once);
    assert_ok(ctx, pol_project_budget(d, b));
    double excess = 0, slope = 0;
    for (int64_t i = 0; i < r.n; i++) {
        const float x = once[r.unit[i]];
        excess += 0x1p-25 * (double)r.cost[i];
        slope += x > 0 && x < 1 ? (double)(r.cost[i] * r.cost[i]) : 0;
    }
    for (int64_t i = 0; i < r.n; i++)
        assert_near(d->s[r.unit[i]], once[r.unit[i]], 6e-8 + (slope > 0 ? (double)r.cost[i] * excess / slope : 0));
    memcpy(d->s, before, (size_t)u->n * sizeof *before);
    free(before);
    free(once);
}

static void test_separate(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 7};
    static const int32_t channels[] = {1, 2, 3, 7, 40, 333, 500};
    for (int round = 0; round < 420; round++) {
        const pol_config c = toy_config(1 + round % 2, 1 + (int32_t)toy_below(&random, 4), channels[round % 7]);
        pol_units *u;
        pol_distribution *d;
        assert_ok(ctx, pol_units_new(ctx, &c, &u));
        assert_ok(ctx, pol_distribution_new(u, POL_CHANNELS, &d));
        const double n = (double)u->n_of[POL_UNIT_CHANNEL], count = 1 + (double)toy_below(&random, (int64_t)n);
        const pol_budget b = {.keep = {0, fmin(1, (count + (round % 4 ? toy_uniform(&random) : 0)) / n)}};
        fill(&random, d, round / 7);
        check_projection(ctx, &random, d, POL_CHANNELS, &b, POL_UNIT_CHANNEL);
        pol_distribution_free(d);
        pol_units_free(u);
    }
}

/* The solution lies among hundreds of breakpoints within 1e-5: units that reach 0 while the others are still at 1, or
 * that leave 1. */
static void test_close_breakpoints(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 13};
    for (int round = 0; round < 40; round++) {
        const bool joint = round & 1, leave_one = round & 2;
        const pol_config c = toy_config(1, 1, 1000);
        pol_units *u;
        pol_distribution *d;
        assert_ok(ctx, pol_units_new(ctx, &c, &u));
        assert_ok(ctx, pol_distribution_new(u, POL_CHANNELS, &d));
        for (int64_t i = 1; i <= 1000; i++)
            d->s[i] = (float)(1e-5 * toy_uniform(&random) + (leave_one ? 1.3 : i % 2 ? 0.3 : 2));
        pol_budget b = {.keep = {0, (leave_one ? 1 : 0.5) + (leave_one ? -4e-6 : 4e-6) * toy_uniform(&random)}};
        if (joint) {
            const double channels = 1000 * TOY_CHANNEL;
            b = (pol_budget){.mode = POL_BUDGET_JOINT,
                             .keep_params = (TOY_GROUP + b.keep[1] * channels) / (TOY_GROUP + channels)};
        }
        check_projection(ctx, &random, d, POL_CHANNELS, &b, POL_UNIT_CHANNEL);
        pol_distribution_free(d);
        pol_units_free(u);
    }
}

/* Two kinds at once are two problems. */
static void test_separate_kinds_do_not_mix(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 8};
    const pol_config c = toy_config(3, 4, 20);
    pol_units *u;
    pol_distribution *both, *heads, *channels;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    assert_ok(ctx, pol_distribution_new(u, POL_HEADS | POL_CHANNELS, &both));
    assert_ok(ctx, pol_distribution_new(u, POL_HEADS, &heads));
    assert_ok(ctx, pol_distribution_new(u, POL_CHANNELS, &channels));
    fill(&random, both, 0);
    memcpy(heads->s, both->s, 12 * sizeof(float));
    memcpy(channels->s + 12, both->s + 12, 60 * sizeof(float));
    const pol_budget b = {.keep = {0.25, 0.4}};
    assert_ok(ctx, pol_project_budget(both, &b));
    assert_ok(ctx, pol_project_budget(heads, &b));
    assert_ok(ctx, pol_project_budget(channels, &b));
    assert_memory_equal(both->s, heads->s, 12 * sizeof(float));
    assert_memory_equal(both->s + 12, channels->s + 12, 60 * sizeof(float));
    pol_distribution_free(both);
    pol_distribution_free(heads);
    pol_distribution_free(channels);
    pol_units_free(u);
}

static void test_joint(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 9};
    static const unsigned granularity[] = {POL_HEADS, POL_CHANNELS, POL_HEADS | POL_CHANNELS, POL_BLOCKS,
                                           POL_CHANNELS | 1u << POL_UNIT_ATTENTION};
    for (int round = 0; round < 400; round++) {
        const pol_config c = toy_config(1 + (int32_t)toy_below(&random, 4), 1 + (int32_t)toy_below(&random, 6),
                                        1 + (int32_t)toy_below(&random, 250));
        pol_units *u;
        pol_distribution *d;
        assert_ok(ctx, pol_units_new(ctx, &c, &u));
        assert_ok(ctx, pol_distribution_new(u, granularity[round % 5], &d));
        const double all = (double)pol_mask_params(u, NULL);
        const pol_joint dense = pol_joint_of(u, &(pol_budget){.mode = POL_BUDGET_JOINT, .keep_params = 1});
        double least = pol_joint_untouched(&dense, d->granularity) / all;
        if (least == 0)
            least = 1.01 * fmax(TOY_GROUP * 4, TOY_CHANNEL * 250) / all;
        const pol_budget b = {.mode = POL_BUDGET_JOINT,
                              .keep_params = fmin(1, least + (1 - least) * toy_uniform(&random))};
        fill(&random, d, round / 5);
        if (pol_budget_check(u, d->granularity, &b) == POL_OK)
            check_projection(ctx, &random, d, d->granularity, &b, POL_UNIT_GROUP);
        pol_distribution_free(d);
        pol_units_free(u);
    }
}

/* What a unit weighs: a block's parameters, its output bias with them, over its units. */
static long double weight(const pol_units *u, const pol_section *sec)
{
    if (sec->kind >= POL_UNIT_ATTENTION)
        return sec->params;
    return (long double)pol_units_section(u, (pol_unit_kind)(sec->kind + 2), sec->layer)->params / sec->count;
}

/* Expected parameters of everything, written out from the header's definition. */
static long double coupled_cost(const pol_distribution *d, const float *s, long double v)
{
    const pol_units *u = d->units;
    long double sum = 0;
    for (int32_t l = 0; l < u->n_layers; l++)
        for (int k = 0; k < 2; k++) {
            const pol_section *in = pol_units_section(u, (pol_unit_kind)k, l),
                              *block = pol_units_section(u, (pol_unit_kind)(k + 2), l);
            long double units = 0, bias = block->params - in->count * in->params;
            for (int64_t i = in->first; i < in->first + in->count; i++)
                units += d->granularity >> k & 1 ? clip(s[i] - v * weight(u, in)) : 1;
            sum += (in->params * units + bias * fminl(units, 1)) *
                   (d->granularity >> (k + 2) & 1 ? clip(s[block->first] - v * block->params) : 1);
        }
    return sum;
}

static void test_coupled(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 10};
    static const unsigned granularity[] = {POL_HEADS | POL_CHANNELS | POL_BLOCKS, POL_CHANNELS | POL_BLOCKS,
                                           POL_CHANNELS | 1u << POL_UNIT_MLP};
    for (int round = 0; round < 120; round++) {
        pol_config c = toy_config(1 + (int32_t)toy_below(&random, 4), 1 + (int32_t)toy_below(&random, 6),
                                  1 + (int32_t)toy_below(&random, 50));
        c.o_bias = c.mlp_bias = round % 2;
        pol_units *u;
        pol_distribution *d;
        assert_ok(ctx, pol_units_new(ctx, &c, &u));
        assert_ok(ctx, pol_distribution_new(u, granularity[round % 3], &d));
        fill(&random, d, round / 3);
        const pol_budget b = {.mode = POL_BUDGET_JOINT, .keep_params = toy_uniform(&random)};
        float before[400];
        memcpy(before, d->s, (size_t)u->n * sizeof *before);
        if (pol_budget_check(u, d->granularity, &b) == POL_OK) {
            const long double budget = (long double)b.keep_params * pol_mask_params(u, NULL);
            long double lo = 0, hi = coupled_cost(d, before, 0) <= budget ? 0 : 1;
            for (int k = 0; k < 200; k++) {
                const long double mid = lo + (hi - lo) / 2;
                if (coupled_cost(d, before, mid) <= budget)
                    hi = mid;
                else
                    lo = mid;
            }
            double v;
            assert_ok(ctx, pol_budget_shift(d, &b, 0, &v));
            assert_ok(ctx, pol_project_budget(d, &b));
            assert_near((double)(coupled_cost(d, before, v) - fminl(budget, coupled_cost(d, before, 0))), 0,
                        1e-9 * (double)budget);
            assert_near((double)(v - hi), 0, 1e-12);
            for (int64_t k = 0; k < u->n_sections; k++)
                for (int64_t i = u->sections[k].first; i < u->sections[k].first + u->sections[k].count; i++)
                    assert_near(d->s[i],
                                d->granularity >> u->sections[k].kind & 1
                                    ? (double)clip(before[i] - hi * weight(u, &u->sections[k]))
                                    : 1,
                                1e-7);
        }
        pol_distribution_free(d);
        pol_units_free(u);
    }
}

/* Slack: already below the budget, nothing moves but what is outside [0, 1]. */
static void test_slack(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = toy_config(1, 1, 5);
    pol_units *u;
    pol_distribution *d;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    assert_ok(ctx, pol_distribution_new(u, POL_CHANNELS, &d));
    const float in[5] = {0.1f, 0.3f, -0.2f, 1.5f, 0}, want[5] = {0.1f, 0.3f, 0, 1, 0};
    memcpy(d->s + 1, in, sizeof in);
    const pol_budget b = {.keep = {0, 0.5}};
    double v;
    assert_ok(ctx, pol_budget_shift(d, &b, POL_UNIT_CHANNEL, &v));
    assert_true(v == 0);
    assert_ok(ctx, pol_project_budget(d, &b));
    assert_memory_equal(d->s + 1, want, sizeof want);
    /* By hand: {0.9, 0.8, 0.3, 0, 1.2} to 2: v = 0.3 gives 0.6 + 0.5 + 0 + 0 + 0.9. */
    const float more[5] = {0.9f, 0.8f, 0.3f, 0, 1.2f}, less[5] = {0.6f, 0.5f, 0, 0, 0.9f};
    memcpy(d->s + 1, more, sizeof more);
    const pol_budget two = {.keep = {0, 0.4}};
    assert_ok(ctx, pol_project_budget(d, &two));
    for (int i = 0; i < 5; i++)
        assert_near(d->s[1 + i], less[i], 1e-7);
    pol_distribution_free(d);
    pol_units_free(u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_separate),
        cmocka_unit_test(test_close_breakpoints),
        cmocka_unit_test(test_separate_kinds_do_not_mix),
        cmocka_unit_test(test_joint),
        cmocka_unit_test(test_coupled),
        cmocka_unit_test(test_slack),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}

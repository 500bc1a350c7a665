/* test_deck.c - sequences drawn from several texts by weight. What is true of one text, test_trainer.c has. */
#include <math.h>

#include "pollard/allocation.h"
#include "tests/test.h"

static pol_status open_deck(pol_context *ctx, const pol_deck_part *parts, int64_t n_parts, int64_t n, int32_t nb,
                            pol_deck **out)
{
    const pol_deck_settings o = {
        .seed = 9, .steps = 100000, .masks = 2, .sequences = nb, .parts = parts, .n_parts = n_parts};
    return pol_deck_new(ctx, &o, n, out);
}

static int part_of(const pol_deck_part *parts, int64_t index)
{
    int i = 0;
    for (; index >= parts[i].n; i++)
        index -= parts[i].n;
    return i;
}

/* After any number of draws each text has had its share but for two, and each of its sequences as often as the others
 * but for one. */
static void test_shares(void **state)
{
    pol_context *ctx = *state;
    static const pol_deck_part sets[][4] = {
        {{7, 2}, {5, 1}, {0, 0}, {0, 0}},
        {{3, 1}, {50, 1}, {8, 1}, {0, 0}},
        {{4, 0.1}, {6, 0.55}, {9, 0.2}, {2, 0.15}},
        {{5, 1000}, {5, 1}, {0, 0}, {0, 0}},
    };
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        const pol_deck_part *parts = sets[s];
        int64_t n_parts = 0, n = 0, drawn[4] = {0}, seen[128] = {0};
        double sum = 0;
        for (; n_parts < 4 && parts[n_parts].n; n_parts++) {
            n += parts[n_parts].n;
            sum += parts[n_parts].weight;
        }
        pol_deck *d;
        assert_ok(ctx, open_deck(ctx, parts, n_parts, n, 1, &d));
        for (int64_t p = 0; p < 3000; p++) {
            int64_t index;
            assert_ok(ctx, pol_deck_draw(d, p / 2, (int32_t)(p % 2), &index));
            assert_in_range(index, 0, n - 1);
            drawn[part_of(parts, index)]++;
            seen[index]++;
            for (int64_t i = 0; i < n_parts; i++)
                assert_near((double)drawn[i], (double)(p + 1) * parts[i].weight / sum, 2.1);
        }
        for (int64_t i = 0; i < n; i++)
            for (int64_t k = 0; k < n; k++)
                if (part_of(parts, i) == part_of(parts, k))
                    assert_true(seen[i] - seen[k] <= 1 && seen[k] - seen[i] <= 1);
        pol_deck_free(d);
    }
}

/* One text with a weight is one text; a text's own order is that of none before it; draws are functions of their
 * arguments. */
static void test_orders(void **state)
{
    pol_context *ctx = *state;
    const pol_deck_part one[] = {{11, 0.3}}, two[] = {{11, 1}, {11, 1}};
    pol_deck *plain, *weighted, *pair;
    int64_t a[3], b[3], first[40], n_first = 0, n_second = 0, second[40];
    assert_ok(ctx, open_deck(ctx, NULL, 0, 11, 3, &plain));
    assert_ok(ctx, open_deck(ctx, one, 1, 11, 3, &weighted));
    for (int64_t step = 0; step < 20; step++) {
        assert_ok(ctx, pol_deck_draw(plain, step, 1, a));
        assert_ok(ctx, pol_deck_draw(weighted, step, 1, b));
        assert_memory_equal(a, b, sizeof a);
    }
    assert_ok(ctx, open_deck(ctx, two, 2, 22, 1, &pair));
    for (int64_t p = 0; p < 44; p++) {
        assert_ok(ctx, pol_deck_draw(pair, p / 2, (int32_t)(p % 2), a));
        assert_ok(ctx, pol_deck_draw(pair, 43 - p, 0, b)); /* elsewhere in between */
        if (a[0] < 11 && n_first < 40)
            first[n_first++] = a[0];
        else if (n_second < 40)
            second[n_second++] = a[0] - 11;
    }
    assert_int_equal(n_first, 22);
    assert_int_equal(n_second, 22);
    assert_ok(ctx, pol_deck_draw(plain, 0, 0, a));
    assert_memory_equal(a, first, sizeof a); /* the first text goes by the order of a set that it is alone */
    assert_memory_not_equal(first, second, 22 * sizeof *first);
    assert_memory_not_equal(first + 11, second, 11 * sizeof *first); /* nor do texts share orders */
    assert_memory_not_equal(first, first + 11, 11 * sizeof *first);  /* another epoch, another order */
    pol_deck_free(plain);
    pol_deck_free(weighted);
    pol_deck_free(pair);
}

/* What a run is set to reaches its decks. */
static void test_settings(void **state)
{
    (void)state;
    const pol_deck_part parts[2] = {{3, 1}, {4, 1}};
    const pol_deck_settings masks = pol_learn_deck(&(pol_learn_settings){.seed = 3,
                                                                         .steps = 4,
                                                                         .mask_samples = 5,
                                                                         .sequences_per_mask = 6,
                                                                         .shared_sequences = true,
                                                                         .parts = parts,
                                                                         .n_parts = 2});
    const pol_deck_settings counts = pol_allocation_deck(&(pol_allocation_settings){
        .seed = 3, .steps = 4, .candidates = 5, .sequences_per_candidate = 6, .parts = parts, .n_parts = 2});
    const pol_deck_settings *both[] = {&masks, &counts};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(both[i]->seed, 3);
        assert_int_equal(both[i]->steps, 4);
        assert_int_equal(both[i]->masks, 5);
        assert_int_equal(both[i]->sequences, 6);
        assert_true(both[i]->shared);
        assert_ptr_equal(both[i]->parts, parts);
        assert_int_equal(both[i]->n_parts, 2);
    }
}

static void test_refusals(void **state)
{
    pol_context *ctx = *state;
    pol_deck *d;
    assert_fails(ctx, open_deck(ctx, (pol_deck_part[]){{3, 1}, {4, 1}}, 2, 8, 1, &d), POL_EARG, "7 of the 8");
    assert_fails(ctx, open_deck(ctx, (pol_deck_part[]){{3, 1}, {6, 1}}, 2, 8, 1, &d), POL_EARG, "text 2: 6 of the 8");
    assert_fails(ctx, open_deck(ctx, (pol_deck_part[]){{0, 1}, {8, 1}}, 2, 8, 1, &d), POL_EARG, "text 1: 0 of the 8");
    assert_fails(ctx, open_deck(ctx, (pol_deck_part[]){{4, 0}, {4, 1}}, 2, 8, 1, &d), POL_EARG, "text 1: weight 0");
    assert_fails(ctx, open_deck(ctx, (pol_deck_part[]){{4, 1}, {4, NAN}}, 2, 8, 1, &d), POL_EARG, "text 2: weight");
    assert_fails(ctx, open_deck(ctx, (pol_deck_part[]){{4, 1}}, 0, 8, 1, &d), POL_EARG, "0 texts");
    assert_null(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}

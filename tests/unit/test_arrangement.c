/* test_arrangement.c - the prefix order against a row of labels that is really moved. */
#include "core/mask/arrangement.h"
#include "tests/test.h"
#include "toy.h"

enum { MAX_UNITS = 4096 };

/* What a backend would do; also checks the op's condition that all indices differ and lie in the section. */
static void swap_rows(const pol_section *sec, const int32_t *a, const int32_t *b, int64_t n, int32_t *rows)
{
    static uint8_t used[MAX_UNITS];
    memset(used, 0, sizeof used);
    for (int64_t i = 0; i < n; i++) {
        assert_in_range(a[i], 0, sec->count - 1);
        assert_in_range(b[i], 0, sec->count - 1);
        assert_int_equal(used[a[i]]++, 0);
        assert_int_equal(used[b[i]]++, 0);
        int32_t *x = &rows[sec->first + a[i]], *y = &rows[sec->first + b[i]];
        const int32_t t = *x;
        *x = *y;
        *y = t;
    }
}

static void check_books(const pol_arrangement *arr, const int32_t *rows)
{
    assert_memory_equal(arr->order, rows, (size_t)arr->size * sizeof *rows);
    for (int64_t i = 0; i < arr->size; i++)
        assert_int_equal(arr->position[arr->order[i]], i);
}

static void test_plan(void **state)
{
    pol_context *ctx = *state;
    pol_config c = toy_config(3, 5, 40);
    c.layers[1] = (pol_layer_shape){0, 1};
    pol_units *u;
    pol_arrangement *arr;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    assert_ok(ctx, pol_arrangement_new(u, &arr));
    assert_int_equal(arr->max_pairs, 20);
    int32_t rows[128], a[20], b[20];
    uint8_t mask[256];
    for (int64_t i = 0; i < arr->size; i++)
        rows[i] = (int32_t)i;
    toy_random random = {.seed = 5};
    for (int round = 0; round < 1000; round++) {
        const double p = round % 7 == 0 ? 0 : round % 11 == 0 ? 1 : toy_uniform(&random);
        for (int64_t i = 0; i < u->n; i++)
            mask[i] = toy_uniform(&random) < (i < arr->size ? p : 0.8);
        for (int32_t l = 0; l < 3; l++)
            for (int kind = 0; kind < 2; kind++) {
                const pol_section *sec = pol_units_section(u, (pol_unit_kind)kind, l);
                const bool dense = toy_uniform(&random) < 0.1;
                const bool off =
                    !dense && sec->count && !mask[pol_units_section(u, (pol_unit_kind)(kind + 2), l)->first];
                int64_t kept = 0, misplaced = 0, n, n_kept;
                for (int64_t i = sec->first; i < sec->first + sec->count; i++)
                    kept += !off && (dense || mask[i]);
                for (int64_t i = sec->first; !off && !dense && i < sec->first + kept; i++)
                    misplaced += !mask[rows[i]];
                pol_arrangement_plan(arr, l, (pol_unit_kind)kind, dense ? NULL : mask, a, b, &n, &n_kept);
                assert_int_equal(n_kept, kept);
                assert_int_equal(arr->kept[kind * u->n_layers + l], kept);
                assert_int_equal(n, misplaced); /* each must move, so fewer pairs cannot do */
                for (int64_t i = 0; i < n; i++) {
                    assert_true(a[i] < kept && b[i] >= kept);
                    assert_true(i == 0 || (a[i] > a[i - 1] && b[i] > b[i - 1]));
                }
                swap_rows(sec, a, b, n, rows);
                for (int64_t i = 0; !off && !dense && i < sec->count; i++)
                    assert_int_equal(mask[rows[sec->first + i]], i < kept);
            }
        check_books(arr, rows);
    }
    pol_arrangement_free(arr);
    pol_units_free(u);
}

static void test_approach(void **state)
{
    pol_context *ctx = *state;
    toy_random random = {.seed = 6};
    for (int round = 0; round < 300; round++) {
        const pol_config c =
            toy_config(2, 1 + (int32_t)toy_below(&random, 9), 1 + (int32_t)toy_below(&random, round < 280 ? 30 : 1500));
        pol_units *u;
        pol_arrangement *arr;
        assert_ok(ctx, pol_units_new(ctx, &c, &u));
        assert_ok(ctx, pol_arrangement_new(u, &arr));
        static int32_t rows[MAX_UNITS], want[MAX_UNITS], a[MAX_UNITS], b[MAX_UNITS];
        for (int64_t i = 0; i < arr->size; i++)
            rows[i] = want[i] = (int32_t)i;
        for (int again = 0; again < 2; again++) { /* from the identity, then from there to another */
            for (int64_t k = 0; k < 4; k++)
                for (int64_t i = u->sections[k].count - 1; i > 0; i--) {
                    int32_t *x = &want[u->sections[k].first + i],
                            *y = &want[u->sections[k].first + toy_below(&random, i + 1)];
                    const int32_t t = *x;
                    *x = *y;
                    *y = t;
                }
            assert_ok(ctx, pol_arrangement_check(arr, want));
            for (int64_t k = 0; k < 4; k++) {
                int64_t n = 1;
                int rounds = 0;
                for (; n; rounds++) {
                    a[arr->max_pairs] = b[arr->max_pairs] = -1;
                    pol_arrangement_approach(arr, u->sections[k].layer, u->sections[k].kind, want, a, b, &n);
                    assert_true(n <= arr->max_pairs && a[arr->max_pairs] == -1 && b[arr->max_pairs] == -1);
                    swap_rows(&u->sections[k], a, b, n, rows);
                }
                assert_in_range(rounds, 1, 3); /* the last one moves nothing */
            }
            assert_memory_equal(rows, want, (size_t)arr->size * sizeof *rows);
            check_books(arr, rows);
        }
        pol_arrangement_free(arr);
        pol_units_free(u);
    }
}

static void test_order_is_checked(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = toy_config(2, 2, 3);
    pol_units *u;
    pol_arrangement *arr;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    assert_ok(ctx, pol_arrangement_new(u, &arr));
    assert_ok(ctx, pol_arrangement_check(arr, (const int32_t[]){1, 0, 2, 3, 6, 4, 5, 7, 8, 9}));
    assert_fails(ctx, pol_arrangement_check(arr, (const int32_t[]){1, 2, 0, 3, 4, 5, 6, 7, 8, 9}), POL_EARG,
                 "order[1] is 2: heads layer 0 are units 0..1");
    assert_fails(ctx, pol_arrangement_check(arr, (const int32_t[]){0, 1, 2, 3, 4, 4, 6, 7, 8, 9}), POL_EARG,
                 "order[5] is 4: channels layer 0");
    assert_fails(ctx, pol_arrangement_check(arr, (const int32_t[]){0, 1, 2, 3, 4, 5, 6, 7, 8, -1}), POL_EARG,
                 "order[9] is -1");
    pol_arrangement_free(arr);
    pol_units_free(u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_approach),
        cmocka_unit_test(test_order_is_checked),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}

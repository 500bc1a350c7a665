/* Attention through the seam: each form that serves the sizes against double sums as the formula reads. */
#include <float.h>

#include "tests/cuda/seam.h"

enum { A100_SHARED = 163 << 10, ADA_SHARED = 99 << 10, H100_SHARED = 227 << 10, ANY_SHARED = 48 << 10 };

typedef struct shape {
    int64_t T, S, G, g, D, window;
    size_t in_off, out_off; /* bytes off alignment */
} shape;

static int64_t qkv_size(const shape *c) { return c->T * c->G * (c->g + 2) * c->D; }
static int64_t out_size(const shape *c) { return c->T * c->G * c->g * c->D; }

static double scale_of(const shape *c) { return (float)(1.5 / sqrt((double)c->D)); }

/* of [2 out_size]: results, then the same sums over absolute values, which errors are measured in. */
static double *reference(const shape *c, const cu_bf16 *qkv, double scale)
{
    const int64_t row = (c->g + 2) * c->D, n = out_size(c);
    double *of = calloc((size_t)(2 * n), sizeof *of), *weights = malloc((size_t)c->S * sizeof *weights);
    assert_non_null(of);
    assert_non_null(weights);
    for (int64_t t = 0; t < c->T; t++)
        for (int64_t head = 0; head < c->G * c->g; head++) {
            const int64_t group = head / c->g, p = t % c->S, first = t - p;
            const int64_t from = c->window && p >= c->window ? p - c->window + 1 : 0;
            const cu_bf16 *query = qkv + (t * c->G + group) * row + head % c->g * c->D;
            double largest = -DBL_MAX, sum = 0;
            for (int64_t k = from; k <= p; k++) {
                const cu_bf16 *key = qkv + ((first + k) * c->G + group) * row + c->g * c->D;
                weights[k] = 0;
                for (int64_t d = 0; d < c->D; d++)
                    weights[k] += (double)pol_bf16_to_f32(query[d]) * pol_bf16_to_f32(key[d]);
                weights[k] *= scale;
                largest = fmax(largest, weights[k]);
            }
            for (int64_t k = from; k <= p; k++)
                sum += weights[k] = exp(weights[k] - largest);
            for (int64_t k = from; k <= p; k++) {
                const cu_bf16 *value = qkv + ((first + k) * c->G + group) * row + (c->g + 1) * c->D;
                for (int64_t d = 0; d < c->D; d++) {
                    const double x = weights[k] / sum * pol_bf16_to_f32(value[d]);
                    of[(t * c->G * c->g + head) * c->D + d] += x;
                    of[n + (t * c->G * c->g + head) * c->D + d] += fabs(x);
                }
            }
        }
    free(weights);
    return of;
}

static const char *name_of(const shape *c, cu_attention_form form, char (*text)[160])
{
    static const char *const forms[] = {"auto", "plain", "one pass", "online"};
    snprintf(*text, sizeof *text, "%s T=%d S=%d G=%d g=%d D=%d window=%d, off by %d and %d bytes", forms[form],
             (int)c->T, (int)c->S, (int)c->G, (int)c->g, (int)c->D, (int)c->window, (int)c->in_off, (int)c->out_off);
    return *text;
}

/* What the device makes of it; yours: free(). */
static cu_bf16 *run(cudaStream_t stream, const shape *c, const cu_bf16 *qkv, double scale, cu_attention_form form,
                    int max_shared_bytes)
{
    seam_operand in = seam_put(qkv, (size_t)qkv_size(c) * sizeof *qkv, c->in_off);
    seam_operand out = seam_put(NULL, (size_t)out_size(c) * sizeof *qkv, c->out_off);
    const cu_attention a = {.out = seam_at(&out),
                            .qkv = seam_at(&in),
                            .T = c->T,
                            .S = c->S,
                            .G = c->G,
                            .g = c->g,
                            .D = c->D,
                            .window = c->window,
                            .scale = (float)scale,
                            .form = form,
                            .max_shared_bytes = max_shared_bytes};
    assert_cuda(pol_cu_attention(stream, &a));
    assert_cuda(cudaStreamSynchronize(stream));
    cu_bf16 *got = malloc(out.bytes);
    assert_non_null(got);
    seam_take(&in, NULL);
    seam_take(&out, got);
    return got;
}

/* A result is rounded to bf16: it errs by 2^-8 of itself at most, and over many by a third of that squared in the mean
 * square. With matrix units so does each weight, and their sum with them. f32 sums and exponentials err by far less. */
static void check(const shape *c, cu_attention_form form, const cu_bf16 *got, const double *want)
{
    const int64_t n = out_size(c);
    const double round = 0x1p-8, weights = form == POL_CU_ATTENTION_PLAIN ? 0 : 1;
    double squares = 0, allowed = 0;
    char text[160];
    for (int64_t i = 0; i < n; i++) {
        const double e = fabs(pol_bf16_to_f32(got[i]) - want[i]), result = fabs(want[i]), sum = want[n + i];
        if (!(e <= round * 1.01 * (result + 2 * weights * sum) + 1e-5 * sum))
            fail_msg("%s: element %lld is %.6g, expected %.6g", name_of(c, form, &text), (long long)i,
                     (double)pol_bf16_to_f32(got[i]), want[i]);
        squares += e * e;
        allowed += round * round / 3 * ((1 + weights) * result * result + weights * sum * sum);
    }
    if (!(squares <= allowed))
        fail_msg("%s: squares of errors add up to %.3g, at most %.3g is rounding", name_of(c, form, &text), squares,
                 allowed);
}

/* Those from `form` on. */
static void check_forms(cudaStream_t stream, const shape *c, cu_attention_form form)
{
    cu_bf16 *qkv = normal_bf16(1, qkv_size(c), 1);
    double *want = reference(c, qkv, scale_of(c));
    for (; form <= POL_CU_ATTENTION_ONLINE; form++)
        if (pol_cu_attention_serves(form, c->S, c->g, c->D, A100_SHARED)) {
            cu_bf16 *got = run(stream, c, qkv, scale_of(c), form, A100_SHARED);
            check(c, form, got, want);
            free(got);
        }
    free(want);
    free(qkv);
}

static void test_shapes(void **state)
{
    static const shape shapes[] = {
        {.T = 1, .S = 1, .G = 1, .g = 1, .D = 16},
        {.T = 6, .S = 1, .G = 2, .g = 3, .D = 64},
        {.T = 64, .S = 32, .G = 1, .g = 1, .D = 64},
        {.T = 130, .S = 65, .G = 2, .g = 3, .D = 64},
        {.T = 66, .S = 33, .G = 2, .g = 4, .D = 80},
        {.T = 129, .S = 129, .G = 1, .g = 1, .D = 128},
        {.T = 10, .S = 10, .G = 1, .g = 71, .D = 7},
        {.T = 5, .S = 5, .G = 2, .g = 2, .D = 260}, /* the plain form goes twice */
        {.T = 40, .S = 40, .G = 1, .g = 3, .D = 256},
        {.T = 16, .S = 16, .G = 3, .g = 1, .D = 16},
        {.T = 51, .S = 17, .G = 1, .g = 4, .D = 32},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_forms(*state, &shapes[i], POL_CU_ATTENTION_PLAIN);
}

static void test_windows(void **state)
{
    static const shape shapes[] = {
        {.T = 60, .S = 60, .G = 1, .g = 8, .D = 16, .window = 33},
        {.T = 100, .S = 50, .G = 2, .g = 3, .D = 16, .window = 1},
        {.T = 100, .S = 100, .G = 2, .g = 3, .D = 16, .window = 37},
        {.T = 100, .S = 100, .G = 1, .g = 1, .D = 16, .window = 18},
        {.T = 50, .S = 50, .G = 2, .g = 1, .D = 16, .window = 5000},
        {.T = 50, .S = 50, .G = 2, .g = 1, .D = 16, .window = 50},
        {.T = 50, .S = 50, .G = 2, .g = 1, .D = 16, .window = 49},
        {.T = 520, .S = 520, .G = 1, .g = 1, .D = 16, .window = 70},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_forms(*state, &shapes[i], POL_CU_ATTENTION_PLAIN);
}

/* Rows that are not aligned to vectors, by the address or by their length, in one or both. */
static void test_alignment(void **state)
{
    static const shape shapes[] = {
        {.T = 34, .S = 17, .G = 2, .g = 2, .D = 32, .in_off = 2},
        {.T = 34, .S = 17, .G = 2, .g = 2, .D = 32, .out_off = 2},
        {.T = 34, .S = 17, .G = 2, .g = 2, .D = 32, .in_off = 8, .out_off = 14},
        {.T = 34, .S = 17, .G = 2, .g = 2, .D = 33},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_forms(*state, &shapes[i], POL_CU_ATTENTION_PLAIN);
}

/* So many blocks that tiles of 64 rows are chosen, or of 32. */
static void test_large_tiles(void **state)
{
    static const shape shapes[] = {
        {.T = 1376, .S = 43, .G = 2, .g = 2, .D = 16}, /* tiles of 64 and of 22 rows */
        {.T = 946, .S = 43, .G = 2, .g = 2, .D = 32},  /* of 32, 32 and 22 */
        {.T = 960, .S = 15, .G = 2, .g = 5, .D = 16, .window = 4},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_forms(*state, &shapes[i], POL_CU_ATTENTION_ONE_PASS);
}

/* Scores far apart, growing with the position: each chunk of keys then changes the largest, by much. */
static void test_steep(void **state)
{
    const shape c = {.T = 100, .S = 100, .G = 1, .g = 2, .D = 16};
    for (int falling = 0; falling < 2; falling++) {
        cu_bf16 *qkv = normal_bf16(1, qkv_size(&c), 1);
        for (int64_t t = 0; t < c.T; t++) {
            cu_bf16 *row = qkv + t * (c.g + 2) * c.D;
            for (int64_t j = 0; j < c.g; j++)
                row[j * c.D] = pol_f32_to_bf16(1);
            row[c.g * c.D] = pol_f32_to_bf16((float)(falling ? c.T - t : t) / 2);
        }
        double *want = reference(&c, qkv, 1);
        for (cu_attention_form form = POL_CU_ATTENTION_PLAIN; form <= POL_CU_ATTENTION_ONLINE; form++) {
            cu_bf16 *got = run(*state, &c, qkv, 1, form, A100_SHARED);
            check(&c, form, got, want);
            free(got);
        }
        free(want);
        free(qkv);
    }
}

/* What is not finite stays where it belongs: `key` and `query` rows of position `at` of the second of two sequences,
 * first group, are spoilt by turns. */
static void test_nan(void **state)
{
    const shape c = {.T = 80, .S = 40, .G = 2, .g = 2, .D = 16};
    const int64_t at = 19, row = (c.g + 2) * c.D;
    cu_bf16 *qkv = normal_bf16(1, qkv_size(&c), 1);
    for (cu_attention_form form = POL_CU_ATTENTION_PLAIN; form <= POL_CU_ATTENTION_ONLINE; form++) {
        cu_bf16 *clean = run(*state, &c, qkv, scale_of(&c), form, A100_SHARED);
        for (int64_t part = 0; part < c.g + 2; part++) { /* a query head, the key, the value */
            cu_bf16 *x = qkv + ((c.S + at) * c.G) * row + part * c.D + 5, was = *x;
            *x = 0x7fc0;
            cu_bf16 *got = run(*state, &c, qkv, scale_of(&c), form, A100_SHARED);
            *x = was;
            for (int64_t i = 0; i < out_size(&c); i++) {
                const int64_t d = i % c.D, head = i / c.D % c.g, group = i / c.D / c.g % c.G, t = i / c.D / c.g / c.G;
                const bool mine = group == 0 && t >= c.S, sees = mine && t - c.S >= at;
                const bool is_nan = isnan(pol_bf16_to_f32(got[i]));
                const bool must_be = part < c.g    ? mine && t - c.S == at && head == part
                                     : part == c.g ? sees
                                                   : sees && d == 5;
                /* In a tile of rows, a value that one sees spoils it for all. */
                const bool may_be = part == c.g + 1 && form != POL_CU_ATTENTION_PLAIN && mine && d == 5;
                if (must_be ? !is_nan : !may_be && got[i] != clean[i])
                    fail_msg("form %d: part %d is NaN, and element %d of head %d of group %d at %d is %g", (int)form,
                             (int)part, (int)d, (int)head, (int)group, (int)t, pol_bf16_to_f32(got[i]));
            }
            free(got);
        }
        free(clean);
    }
    free(qkv);
}

/* Any order of threads and blocks gives the same bits. */
static void test_orders(void **state)
{
    const shape c = {.T = 80, .S = 40, .G = 2, .g = 3, .D = 32};
    cu_bf16 *qkv = normal_bf16(1, qkv_size(&c), 1);
    for (cu_attention_form form = POL_CU_ATTENTION_PLAIN; form <= POL_CU_ATTENTION_ONLINE; form++) {
        cu_bf16 *first = NULL;
        for (uint64_t seed = 1; seed <= 4; seed++) {
            sim_seed(seed);
            cu_bf16 *got = run(*state, &c, qkv, scale_of(&c), form, A100_SHARED);
            if (first)
                assert_memory_equal(got, first, (size_t)out_size(&c) * sizeof *got);
            else
                first = got;
            if (got != first)
                free(got);
        }
        free(first);
    }
    free(qkv);
}

/* AUTO is the first that serves of one pass, online, plain; a form that does not serve is refused. */
static void test_forms(void **state)
{
    const int all[] = {ANY_SHARED, ADA_SHARED, A100_SHARED, H100_SHARED};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_true(pol_cu_attention_serves(POL_CU_ATTENTION_AUTO, 1 << 20, 71, 7, all[i]));
        assert_true(pol_cu_attention_serves(POL_CU_ATTENTION_PLAIN, 1 << 20, 71, 2048, all[i]));
        assert_true(pol_cu_attention_serves(POL_CU_ATTENTION_ONE_PASS, 128, 8, 128, all[i]));
        assert_true(pol_cu_attention_serves(POL_CU_ATTENTION_ONLINE, 1 << 20, 1, 128, all[i]));
        assert_int_equal(pol_cu_attention_serves(POL_CU_ATTENTION_ONE_PASS, 512, 1, 256, all[i]), all[i] > ANY_SHARED);
        assert_int_equal(pol_cu_attention_serves(POL_CU_ATTENTION_ONLINE, 4096, 1, 256, all[i]), all[i] > ANY_SHARED);
        assert_false(pol_cu_attention_serves(POL_CU_ATTENTION_ONE_PASS, 513, 1, 64, all[i]));
        for (cu_attention_form form = POL_CU_ATTENTION_ONE_PASS; form <= POL_CU_ATTENTION_ONLINE; form++) {
            assert_false(pol_cu_attention_serves(form, 128, 1, 72, all[i]));
            assert_false(pol_cu_attention_serves(form, 128, 1, 272, all[i]));
        }
    }
    static const struct {
        shape c;
        int max_shared_bytes;
        cu_attention_form form;
    } autos[] = {
        {{.T = 50, .S = 50, .G = 1, .g = 1, .D = 16}, ADA_SHARED, POL_CU_ATTENTION_ONE_PASS},
        {{.T = 520, .S = 520, .G = 1, .g = 1, .D = 16}, ADA_SHARED, POL_CU_ATTENTION_ONLINE},
        {{.T = 20, .S = 20, .G = 1, .g = 1, .D = 12}, ADA_SHARED, POL_CU_ATTENTION_PLAIN},
        {{.T = 20, .S = 20, .G = 1, .g = 1, .D = 256}, ANY_SHARED, POL_CU_ATTENTION_PLAIN},
    };
    for (size_t i = 0; i < sizeof autos / sizeof *autos; i++) {
        const shape *c = &autos[i].c;
        cu_bf16 *qkv = normal_bf16(1, qkv_size(c), 1);
        cu_bf16 *want = run(*state, c, qkv, scale_of(c), autos[i].form, autos[i].max_shared_bytes);
        cu_bf16 *got = run(*state, c, qkv, scale_of(c), POL_CU_ATTENTION_AUTO, autos[i].max_shared_bytes);
        assert_memory_equal(got, want, (size_t)out_size(c) * sizeof *got);
        free(got);
        free(want);
        free(qkv);
    }
    const cu_attention a = {.T = 4, .S = 4, .G = 1, .g = 1, .D = 12, .form = POL_CU_ATTENTION_ONLINE};
    assert_int_equal(pol_cu_attention(*state, &a), cudaErrorInvalidValue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),      cmocka_unit_test(test_windows), cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_large_tiles), cmocka_unit_test(test_steep),   cmocka_unit_test(test_nan),
        cmocka_unit_test(test_orders),      cmocka_unit_test(test_forms),
    };
    return cmocka_run_group_tests(tests, seam_open, seam_close);
}

/* test_streams.c - streams that go through a model block by block, and second moments of what they meet there: those of
 * the activations themselves, on resident models and streamed ones. */
#include "core/forward_state.h"
#include "core/streams.h"
#include "tests/unit/streamed.h"

enum { N = 5 }; /* sequences: two whole batches and a half */

static pol_sequences text_of(fixture *f, int64_t n)
{
    return (pol_sequences){.ctx = f->ctx, .n = n, .seq_len = S, .ids = f->ids};
}

/* What is summed of one block, by the definition. */
typedef struct moments {
    int64_t n, m;        /* columns of x, of the target */
    double *h, *b;       /* [n, n], [n, m] */
    double *sum, *sumsq; /* [n] */
} moments;

static moments moments_of(int64_t n, int64_t m)
{
    return (moments){n,
                     m,
                     calloc((size_t)(n * n), sizeof(double)),
                     calloc((size_t)(n * m + 1), sizeof(double)),
                     calloc((size_t)n, sizeof(double)),
                     calloc((size_t)n, sizeof(double))};
}

static void moments_free(moments *m)
{
    free(m->h);
    free(m->b);
    free(m->sum);
    free(m->sumsq);
}

/* Rows of `width`, of which the first n columns are meant. */
static void add_rows(moments *m, const float *x, int64_t rows, int64_t width, const float *y)
{
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < m->n; i++) {
            const double xi = x[t * width + i];
            m->sum[i] += xi;
            m->sumsq[i] += xi * xi;
            for (int64_t j = 0; j < m->n; j++)
                m->h[i * m->n + j] += xi * x[t * width + j];
            for (int64_t j = 0; j < m->m; j++)
                m->b[i * m->m + j] += xi * y[t * m->m + j];
        }
}

/* What the streams at `x` meet in a block. */
static void look(fixture *f, int k, const float *x, int64_t n, int32_t layer, pol_unit_kind kind, const float *target,
                 moments *m)
{
    const int64_t C = f->model[k]->config.hidden, width = kind == POL_UNIT_GROUP ? m->n : pol_padded(f->be[k], m->n);
    float *mid = malloc((size_t)(B * S * width) * sizeof *mid);
    for (int64_t i = 0; i < n; i += B) {
        const int64_t sequences = pol_min_i64(B, n - i), rows = sequences * S;
        assert_ok(f->ctx, pol_forward_put(f->forward[k], x + i * S * C, sequences, S));
        assert_ok(f->ctx, kind == POL_UNIT_GROUP ? pol_forward_attention(f->forward[k], layer, NULL)
                                                 : pol_forward_mlp(f->forward[k], layer, NULL));
        assert_ok(f->ctx, pol_download(f->be[k], f->forward[k]->mid, 0, mid, rows * width));
        add_rows(m, mid, rows, width, target ? target + i * S * C : NULL);
    }
    free(mid);
}

static void assert_moments(const double *got, const double *want, int64_t n)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(want[i]));
    assert_true(largest > 0);
    for (int64_t i = 0; i < n; i++)
        assert_near(got[i], want[i], 1e-6 * largest);
}

static int64_t kept(const fixture *f, int k, int32_t layer, pol_unit_kind kind)
{
    const pol_layer_weights *w = &f->model[k]->layers[layer];
    return kind == POL_UNIT_GROUP ? w->n_groups * pol_ctx_cols(&f->model[k]->config) : w->n_channels;
}

/* One block of it: the tap has the moments of what enters its last matrix, and the streams are where they were. */
static int64_t check_block(fixture *f, int k, pol_streams *s, const pol_streams *toward, pol_gram_sums *sums,
                           int32_t layer, pol_unit_kind kind)
{
    const int64_t C = s->C, n = kept(f, k, layer, kind), elements = s->n * S * C;
    if (!n)
        return 0;
    moments want = moments_of(n, toward ? C : 0), got = moments_of(n, C);
    float *before = malloc((size_t)elements * sizeof *before), *way = malloc((size_t)elements * sizeof *way);
    memcpy(before, s->x, (size_t)elements * sizeof *before);
    for (int64_t i = 0; toward && i < elements; i++)
        way[i] = toward->x[i] - s->x[i];
    const pol_tap tap = {.sum = got.sum, .sumsq = got.sumsq, .gram = sums};
    assert_ok(f->ctx, pol_gram_reset(sums, kind == POL_UNIT_GROUP ? n : pol_padded(f->be[k], n), toward != NULL));
    assert_ok(f->ctx, pol_streams_block(s, layer, kind, &tap, toward, false));
    assert_memory_equal(s->x, before, (size_t)elements * sizeof *before);
    assert_int_equal(sums->tokens, s->n * S);
    assert_ok(f->ctx, pol_gram_read(sums, n, got.h, toward ? got.b : NULL));
    look(f, k, s->x, s->n, layer, kind, toward ? way : NULL, &want);
    assert_moments(got.h, want.h, n * n);
    assert_moments(got.sumsq, want.sumsq, n);
    assert_moments(got.sum, want.sum, n);
    if (toward)
        assert_moments(got.b, want.b, n * C);
    free(before);
    free(way);
    moments_free(&want);
    moments_free(&got);
    return 1;
}

/* All blocks of a masked model, on streams that move on; half of them with a target. One set of sums serves all. */
static void check_model(const char *name, uint64_t mask)
{
    for (int k = 0; k < 2; k++) {
        fixture f;
        pol_streams s, dense;
        pol_gram_sums sums;
        int64_t checked = 0;
        open_fixture(&f, name);
        const pol_sequences text = text_of(&f, N);
        const pol_config *c = &f.model[k]->config;
        set_mask(&f, mask);
        const uint64_t before = f.be[k]->bytes_in_use;
        assert_ok(f.ctx, pol_gram_new(f.be[k], B * S, pol_widest_input(c, POL_HEADS | POL_CHANNELS), c->hidden, &sums));
        assert_int_equal(f.be[k]->bytes_in_use - before,
                         pol_gram_bytes(f.be[k], B * S, pol_widest_input(c, POL_HEADS | POL_CHANNELS), c->hidden));
        assert_ok(f.ctx, pol_streams_begin(f.forward[k], &text, &s));
        assert_ok(f.ctx, pol_streams_copy(&s, &dense));
        for (int64_t i = 0; i < s.n * S * s.C; i++)
            dense.x[i] = dense.x[i] * 1.5f + 0.25f * (float)(i % 7);
        for (int32_t l = 0; l < c->n_layers; l++)
            for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++) {
                checked += check_block(&f, k, &s, (l + kind) % 2 ? &dense : NULL, &sums, l, (pol_unit_kind)kind);
                assert_ok(f.ctx, pol_streams_block(&s, l, (pol_unit_kind)kind, NULL, NULL, true));
            }
        assert_true(checked > c->n_layers);
        pol_streams_free(&s);
        pol_streams_free(&dense);
        pol_gram_free(&sums);
        assert_int_equal(f.be[k]->bytes_in_use, before);
        close_fixture(&f);
    }
}

static void test_moments_are_those_of_the_activations(void **state)
{
    (void)state;
    static const char *const names[] = {"models/llama-gqa-tied", "models/llama-linear-bias", "models/trained"};
    for (size_t i = 0; i < POL_COUNT(names); i++)
        for (uint64_t mask = 0; mask < 3; mask++)
            check_model(names[i], mask);
}

/* Block by block or layer by layer the streams end where whole passes end, to the last bit, whatever the batch. */
static void test_streams_end_where_passes_end(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++)
        for (int64_t n = 1; n <= N; n++) {
            fixture f;
            pol_streams by_block, by_layer;
            open_fixture(&f, "models/llama-linear-bias");
            const pol_sequences text = text_of(&f, n);
            const int64_t C = f.model[k]->config.hidden;
            float *want = malloc((size_t)(n * S * C) * sizeof *want);
            set_mask(&f, 7);
            assert_ok(f.ctx, pol_streams_begin(f.forward[k], &text, &by_block));
            assert_ok(f.ctx, pol_streams_begin(f.forward[k], &text, &by_layer));
            assert_int_equal(by_block.batch, B);
            for (int64_t i = 0; i < n; i++) {
                assert_ok(f.ctx, pol_forward_begin(f.forward[k], f.ids + i * S, 1, S));
                for (int32_t l = 0; l < 3; l++) {
                    assert_ok(f.ctx, pol_forward_attention(f.forward[k], l, NULL));
                    assert_ok(f.ctx, pol_forward_mlp(f.forward[k], l, NULL));
                }
                assert_ok(f.ctx, pol_forward_get(f.forward[k], want + i * S * C));
            }
            for (int32_t l = 0; l < 3; l++) {
                assert_ok(f.ctx, pol_streams_block(&by_block, l, POL_UNIT_GROUP, NULL, NULL, true));
                assert_ok(f.ctx, pol_streams_block(&by_block, l, POL_UNIT_CHANNEL, NULL, NULL, true));
                assert_ok(f.ctx, pol_streams_layer(&by_layer, l, NULL, NULL, true));
            }
            assert_memory_equal(by_block.x, want, (size_t)(n * S * C) * sizeof *want);
            assert_memory_equal(by_layer.x, want, (size_t)(n * S * C) * sizeof *want);
            assert_int_equal(pol_streams_bytes(&f.model[k]->config, n, S), (size_t)(n * S * C) * sizeof *want);
            free(want);
            pol_streams_free(&by_block);
            pol_streams_free(&by_layer);
            close_fixture(&f);
        }
}

/* A sum is a pair of numbers, of which the second is far below what the first can tell. */
static void test_sums_are_read_whole(void **state)
{
    (void)state;
    enum { MOST = 9, n = 5, m = 3 };
    fixture f;
    pol_gram_sums sums;
    float a[2 * n * n], b[2 * n * m];
    double h[n * n], cross[n * m];
    open_fixture(&f, "models/llama-gqa-tied");
    assert_ok(f.ctx, pol_gram_new(f.be[1], 4, MOST, m, &sums));
    assert_int_equal(sums.max_n, 12); /* tiles of 4 */
    assert_ok(f.ctx, pol_gram_reset(&sums, n, true));
    for (int i = 0; i < 2 * n * n; i++)
        a[i] = i < n * n ? 1.0f + (float)i : 1e-9f * (float)i;
    for (int i = 0; i < 2 * n * m; i++)
        b[i] = i < n * m ? -1.0f - (float)i : 1e-9f * (float)i;
    assert_ok(f.ctx, pol_upload(f.be[1], sums.a, 0, a, 2 * n * n));
    assert_ok(f.ctx, pol_upload(f.be[1], sums.b, 0, b, 2 * n * m));
    for (int columns = 1; columns <= n; columns++) {
        assert_ok(f.ctx, pol_gram_read(&sums, columns, h, cross));
        for (int i = 0; i < columns; i++)
            for (int j = 0; j < columns; j++) {
                const int lower = i > j ? i * n + j : j * n + i;
                assert_true(h[i * columns + j] == (double)a[lower] + (double)a[n * n + lower]);
            }
        for (int i = 0; i < columns * m; i++)
            assert_true(cross[i] == (double)b[i] + (double)b[n * m + i]);
    }
    assert_ok(f.ctx, pol_gram_reset(&sums, n, true)); /* and forgotten whole */
    assert_ok(f.ctx, pol_gram_read(&sums, n, h, cross));
    for (int i = 0; i < n * n; i++)
        assert_true(h[i] == 0);
    for (int i = 0; i < n * m; i++)
        assert_true(cross[i] == 0);
    pol_gram_free(&sums);
    close_fixture(&f);
}

static void test_refusals(void **state)
{
    (void)state;
    fixture f;
    pol_gram_sums sums;
    pol_streams s;
    double h[64];
    open_fixture(&f, "models/llama-gqa-tied");
    assert_ok(f.ctx, pol_gram_new(f.be[1], 4, 8, 0, &sums));
    assert_int_equal(pol_gram_largest_buffer(f.be[1], 4, 8, 0), 2 * 8 * 8 * sizeof(float));
    assert_fails(f.ctx, pol_gram_reset(&sums, 9, false), POL_EARG, "9 columns, made for 8");
    assert_fails(f.ctx, pol_gram_reset(&sums, 0, false), POL_EARG, "0 columns");
    assert_fails(f.ctx, pol_gram_reset(&sums, 8, true), POL_EARG, "and a target, made for 8 and 0 of a target");
    assert_ok(f.ctx, pol_gram_reset(&sums, 6, false));
    assert_fails(f.ctx, pol_gram_add(&sums, (pol_view){f.forward[1]->mid, 0}, 4, 8), POL_EARG, "for 6 columns");
    assert_fails(f.ctx, pol_gram_add(&sums, (pol_view){f.forward[1]->mid, 0}, 5, 6), POL_EARG, "4 rows at a time");
    assert_fails(f.ctx, pol_gram_read(&sums, 7, h, NULL), POL_EARG, "6 were summed");
    assert_fails(f.ctx, pol_gram_read(&sums, 6, h, h), POL_EARG, "and a target");
    pol_gram_free(&sums);
    assert_true(pol_gram_bytes(f.be[1], 4, INT64_MAX / 8, 0) == UINT64_MAX);
    pol_sequences text = text_of(&f, 0);
    assert_fails(f.ctx, pol_streams_begin(f.forward[1], &text, &s), POL_EARG, "0 sequences");
    text = (pol_sequences){.ctx = f.ctx, .n = 1, .seq_len = B * S + 1, .ids = f.ids};
    assert_fails(f.ctx, pol_streams_begin(f.forward[1], &text, &s), POL_EARG, "sequences of 33 tokens");
    assert_null(s.x);
    text = text_of(&f, 3);
    assert_ok(f.ctx, pol_streams_begin(f.forward[1], &text, &s));
    pol_context_stop(f.ctx);
    assert_int_equal(pol_streams_layer(&s, 0, NULL, NULL, true), POL_EINTERRUPTED);
    pol_streams_free(&s);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moments_are_those_of_the_activations),
        cmocka_unit_test(test_streams_end_where_passes_end),
        cmocka_unit_test(test_sums_are_read_whole),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

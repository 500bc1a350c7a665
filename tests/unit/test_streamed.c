/* test_streamed.c - models whose layers visit the device: every number is that of the resident model, the memory is
 * that of the plan, and a layer comes once for all passes that are queued. */
#include <math.h>

#include "backends/drivers.h"
#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/forward.h"
#include "core/model/half.h"
#include "core/model/weights.h"
#include "pollard/eval.h"
#include "pollard/export.h"
#include "pollard/learn.h"
#include "pollard/memory.h"
#include "pollard/score.h"
#include "tests/unit/late_backend.h"

enum { B = 2, S = 16, V = 32, SEQUENCES = 24, CELLS = 5 };

/* The model with its layers at home, on a backend that serves late, and the model on the device. */
enum { STREAMED, RESIDENT };

typedef struct fixture {
    pol_context *ctx;
    pol_source *src;
    pol_backend *be[2];
    pol_model *model[2];
    pol_forward *forward[2];
    const pol_units *units;
    uint8_t *mask;
    int32_t ids[SEQUENCES * S];
    int32_t slot[2]; /* the layers that are there, as far as buffers_filled() knows */
} fixture;

static const pol_placement five = {.streamed = true, .cells = CELLS};

static void open_placed(fixture *f, const char *path, const pol_placement *p)
{
    memset(f, 0, sizeof *f);
    assert_int_equal(pol_context_new(NULL, &f->ctx), POL_OK);
    assert_ok(f->ctx, pol_source_open(f->ctx, path, &f->src));
    for (int i = 0; i < 2; i++) {
        assert_ok(f->ctx, pol_reference_open(f->ctx, &f->be[i]));
        f->be[i]->width_tile = 4;
        f->be[i]->buf_align = 256;
        if (i == STREAMED)
            late_start(f->be[i]);
        assert_ok(f->ctx, pol_model_load(f->src, f->be[i], i == STREAMED ? p : NULL, &f->model[i]));
        assert_ok(f->ctx, pol_forward_new(f->model[i], B * S, S, &f->forward[i]));
    }
    f->units = pol_model_units(f->model[STREAMED]);
    f->mask = malloc((size_t)f->units->n);
    f->slot[0] = f->slot[1] = -1;
    for (int i = 0; i < SEQUENCES * S; i++)
        f->ids[i] = (i * 37 + i / 11) % V;
}

static void open_fixture(fixture *f, const char *name) { open_placed(f, test_file(name), &five); }

static void close_fixture(fixture *f)
{
    free(f->mask);
    for (int i = 0; i < 2; i++) {
        pol_forward_free(f->forward[i]);
        pol_model_free(f->model[i]);
        assert_int_equal(f->be[i]->bytes_in_use, 0);
        pol_backend_close(f->be[i]);
    }
    late_end();
    pol_source_close(f->src);
    pol_context_free(f->ctx);
}

static void draw(const pol_units *u, uint64_t i, float keep, uint8_t *mask)
{
    float *x = malloc((size_t)u->n * sizeof *x);
    pol_uniform(3, POL_STREAM_TEST, i, 0, u->n, x);
    for (int64_t k = 0; k < u->n; k++)
        mask[k] = x[k] < (k < u->n_of[POL_UNIT_GROUP] + u->n_of[POL_UNIT_CHANNEL] ? keep : 0.85f);
    free(x);
}

static void set_mask(fixture *f, uint64_t i)
{
    draw(f->units, i, 0.6f, f->mask);
    for (int k = 0; k < 2; k++)
        assert_ok(f->ctx, pol_model_set_mask(f->model[k], i ? f->mask : NULL)); /* 0: dense */
}

/* Buffers that are filled in so many visits of all layers: each layer comes once a visit, unless it is in its slot from
 * the last one. */
static int64_t buffers_filled(fixture *f, int64_t visits)
{
    const pol_config *c = pol_model_config(f->model[STREAMED]);
    int64_t n = 0;
    for (int64_t i = 0; i < visits * c->n_layers; i++) {
        const int32_t l = (int32_t)(i % c->n_layers);
        for (int part = 0; part < POL_PARTS && f->slot[l % 2] != l; part++)
            n += pol_part_of(c, f->be[STREAMED], l, (pol_part)part).units > 0;
        f->slot[l % 2] = l;
    }
    return n;
}

/* `n` passes under masks from `first` on, two under each, on both; the same bits. */
static void check_passes(fixture *f, int64_t first, int64_t n)
{
    double loss[2][64][B];
    float nll[2][64][B * S];
    assert_true(n <= 64);
    memset(nll, 0, sizeof nll);
    for (int64_t i = 0; i < n; i++) {
        const int64_t sequences = 1 + (first + i) % B, length = S - (first + i) % 3;
        if (i % 2 == 0)
            set_mask(f, (uint64_t)(first + i));
        for (int k = 0; k < 2; k++)
            assert_ok(f->ctx,
                      pol_forward_queue(f->forward[k], f->ids + first + i, sequences, length, nll[k][i], loss[k][i]));
        for (int64_t b = sequences; b < B; b++)
            loss[STREAMED][i][b] = loss[RESIDENT][i][b] = 0;
    }
    for (int k = 0; k < 2; k++)
        assert_ok(f->ctx, pol_forward_settle(f->forward[k]));
    for (int64_t i = 0; i < n; i++) {
        for (int b = 0; b < B; b++)
            assert_true(isfinite(loss[STREAMED][i][b]));
        assert_memory_equal(loss[STREAMED][i], loss[RESIDENT][i], sizeof loss[0][0]);
        assert_memory_equal(nll[STREAMED][i], nll[RESIDENT][i], sizeof nll[0][0]);
    }
}

static void check_order(const fixture *f)
{
    const int64_t n = pol_model_order_size(f->model[STREAMED]);
    int32_t *order = malloc(2 * (size_t)n * sizeof *order);
    for (int k = 0; k < 2; k++)
        pol_model_get_order(f->model[k], order + k * n);
    assert_memory_equal(order, order + n, (size_t)n * sizeof *order);
    free(order);
}

/* Visits that are full, half full and overflowing, one after the other. */
static void check_model(const char *path)
{
    fixture f;
    open_placed(&f, path, &five);
    assert_true(f.model[STREAMED]->config.n_layers > 2);
    int64_t first = 0;
    static const int64_t n[] = {1, CELLS, 2, 2 * CELLS + 1, 3};
    for (size_t i = 0; i < POL_COUNT(n); i++) {
        late.streams = 0;
        check_passes(&f, first, n[i]);
        assert_int_equal(late.streams, buffers_filled(&f, (n[i] + CELLS - 1) / CELLS)); /* however many passes */
        first += n[i];
        check_order(&f);
    }
    close_fixture(&f);
}

static void test_models_as_published(void **state)
{
    (void)state;
    static const char *const names[] = {"models/llama-gqa-tied", "models/llama-linear-bias", "models/mistral-window",
                                        "models/llama-mha-bf16", "models/trained"};
    for (size_t i = 0; i < POL_COUNT(names); i++)
        check_model(test_file(names[i]));
}

/* A model that was pruned before: layers of different sizes, whole blocks gone, and with them parts of some layers. */
static void test_layers_of_all_sizes(void **state)
{
    (void)state;
    static const char *const names[] = {"models/llama-linear-bias", "models/llama-mha-bf16", "models/trained"};
    const pol_export_options pruned = {.format = POL_EXPORT_HF};
    char dir[] = "/tmp/pollard-streamed-XXXXXX", out[64];
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < POL_COUNT(names); i++) {
        fixture f;
        open_fixture(&f, names[i]);
        draw(f.units, 50 + i, 0.5f, f.mask);
        const int32_t gone_attention = 1, gone_mlp = 0, gone_both = 2;
        f.mask[pol_units_section(f.units, POL_UNIT_ATTENTION, gone_attention)->first] = 0;
        f.mask[pol_units_section(f.units, POL_UNIT_MLP, gone_mlp)->first] = 0;
        f.mask[pol_units_section(f.units, POL_UNIT_ATTENTION, gone_both)->first] = 0;
        f.mask[pol_units_section(f.units, POL_UNIT_MLP, gone_both)->first] = 0;
        snprintf(out, sizeof out, "%s/%d", dir, (int)i);
        assert_ok(f.ctx, pol_export(f.src, f.units, f.mask, &pruned, out));
        close_fixture(&f);
        check_model(out);
    }
    pol_context *ctx;
    assert_int_equal(pol_context_new(NULL, &ctx), POL_OK);
    assert_ok(ctx, pol_remove_tree(ctx, dir));
    pol_context_free(ctx);
}

/* One pass a visit, and as many as there may be. */
static void test_cells(void **state)
{
    (void)state;
    static const int64_t cells[] = {1, 2, POL_MAX_CELLS};
    for (size_t i = 0; i < POL_COUNT(cells); i++) {
        fixture f;
        open_placed(&f, test_file("models/llama-gqa-tied"), &(pol_placement){true, cells[i]});
        assert_int_equal(pol_forward_max_pending(f.forward[STREAMED]), cells[i]);
        late.streams = 0;
        check_passes(&f, 0, 7);
        assert_int_equal(late.streams, buffers_filled(&f, (7 + cells[i] - 1) / cells[i]));
        close_fixture(&f);
    }
}

/* A buffer that says it has 16 bits; what the CPU makes of it is of no interest. */
static pol_status wide_buf_new(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out)
{
    const bool half = dtype == POL_F16 || dtype == POL_BF16;
    POL_TRY(late.real->buf_new(be, half ? POL_F32 : dtype, rows, row, out));
    (*out)->dtype = dtype;
    return POL_OK;
}

/* Weights that the device has in 16 bits lie at home rounded as an upload would round them, units that pad a width as
 * zeros, biases in f32. */
static void test_types_at_home(void **state)
{
    (void)state;
    static const pol_dtype types[] = {POL_F16, POL_BF16};
    for (size_t t = 0; t < POL_COUNT(types); t++) {
        fixture f;
        pol_backend *be;
        pol_model *m;
        int64_t rounded = 0;
        open_fixture(&f, "models/llama-linear-bias");
        assert_ok(f.ctx, pol_reference_open(f.ctx, &be));
        pol_ops ops = *be->ops;
        ops.buf_new = wide_buf_new;
        be->ops = &ops;
        be->weight_dtype = types[t];
        be->width_tile = 64;
        f.be[STREAMED]->width_tile = 64;
        assert_ok(f.ctx, pol_model_load(f.src, be, &five, &m));
        pol_model *wide;
        assert_ok(f.ctx, pol_model_load(f.src, f.be[STREAMED], &five, &wide));
        for (int32_t l = 0; l < m->config.n_layers; l++)
            for (int part = 0; part < POL_PARTS; part++) {
                const pol_part_shape s = pol_part_of(&m->config, be, l, (pol_part)part);
                const float *want = pol_visits_home(wide, l, (pol_part)part);
                const void *got = pol_visits_home(m, l, (pol_part)part);
                assert_true(s.units > 0);
                for (int64_t i = 0; i < s.units * s.unit; i++) {
                    if (s.dtype == POL_F32) {
                        assert_true(((const float *)got)[i] == want[i]);
                        continue;
                    }
                    const uint16_t h = ((const uint16_t *)got)[i];
                    assert_int_equal(h, types[t] == POL_F16 ? pol_f32_to_f16(want[i]) : pol_f32_to_bf16(want[i]));
                    rounded += h != 0;
                }
                for (int64_t i = 40 * s.unit; s.kind == POL_UNIT_CHANNEL && i < s.units * s.unit; i++)
                    assert_true(want[i] == 0);
            }
        assert_true(rounded > 1000);
        pol_model_free(wide);
        pol_model_free(m);
        pol_backend_close(be);
        close_fixture(&f);
    }
}

/* ---- steps ---- */

/* What a metric finds looks into layers one by one. */
static void test_metrics(void **state)
{
    (void)state;
    const double keep[POL_UNIT_KINDS] = {0.6, 0.6, 0.9, 0.9};
    static const pol_metric metrics[] = {POL_METRIC_WANDA_SP, POL_METRIC_MAGNITUDE};
    static const char *const names[] = {"models/llama-linear-bias", "models/trained"};
    for (size_t n = 0; n < POL_COUNT(names); n++)
        for (size_t i = 0; i < POL_COUNT(metrics); i++) {
            fixture f;
            open_fixture(&f, names[n]);
            const size_t bytes = (size_t)f.units->n * sizeof(float);
            const pol_sequences cal = {.ctx = f.ctx, .n = 5, .seq_len = S, .ids = f.ids};
            float *value[2] = {malloc(bytes), malloc(bytes)};
            check_passes(&f, 3, 2); /* from an order that is not the first one */
            for (int k = 0; k < 2; k++)
                assert_ok(f.ctx, pol_metric_compute(f.forward[k], metrics[i], &cal, POL_HEADS | POL_CHANNELS, keep, 1,
                                                    value[k], NULL));
            assert_memory_equal(value[STREAMED], value[RESIDENT], bytes);
            check_passes(&f, 7, 3);
            free(value[0]);
            free(value[1]);
            close_fixture(&f);
        }
}

/* Stepping through layers settles what is queued first. */
static void test_steps_settle_passes(void **state)
{
    (void)state;
    fixture f;
    double loss[2][B] = {{0}};
    open_fixture(&f, "models/llama-gqa-tied");
    const int64_t C = f.model[STREAMED]->config.hidden;
    float *x[2] = {malloc((size_t)(B * S * C) * sizeof(float)), malloc((size_t)(B * S * C) * sizeof(float))};
    for (int k = 0; k < 2; k++) {
        assert_ok(f.ctx, pol_forward_queue(f.forward[k], f.ids, B, S, NULL, loss[k]));
        assert_ok(f.ctx, pol_forward_begin(f.forward[k], f.ids + 5, B, S));
        assert_true(loss[k][0] > 0);
        for (int32_t l = 0; l < 3; l++) {
            assert_ok(f.ctx, pol_forward_attention(f.forward[k], l, NULL));
            assert_ok(f.ctx, pol_forward_mlp(f.forward[k], l, NULL));
        }
        assert_ok(f.ctx, pol_forward_get(f.forward[k], x[k]));
    }
    assert_memory_equal(loss[0], loss[1], sizeof loss[0]);
    assert_memory_equal(x[0], x[1], (size_t)(B * S * C) * sizeof(float));
    free(x[0]);
    free(x[1]);
    close_fixture(&f);
}

static void test_evaluation(void **state)
{
    (void)state;
    fixture f;
    pol_perplexity p[2];
    open_fixture(&f, "models/llama-gqa-tied");
    const pol_sequences text = {.ctx = f.ctx, .n = SEQUENCES - 1, .seq_len = S, .ids = f.ids};
    set_mask(&f, 4);
    late.streams = late.syncs = 0;
    for (int k = 0; k < 2; k++)
        assert_ok(f.ctx, pol_eval_sequences(f.forward[k], &text, NULL, NULL, &p[k]));
    assert_true(p[0].nll == p[1].nll && p[0].standard_error == p[1].standard_error);
    const int64_t passes = (text.n + B - 1) / B, visits = (passes + CELLS - 1) / CELLS;
    assert_int_equal(late.streams, buffers_filled(&f, visits));
    assert_int_equal(late.syncs, visits);
    close_fixture(&f);
}

/* ---- learning ---- */

typedef struct learner {
    fixture *f;
    int which;
} learner;

static pol_status look(void *user, const uint8_t *mask, const int64_t *index, int64_t n, double *loss)
{
    const learner *l = user;
    POL_TRY(pol_model_set_mask(l->f->model[l->which], mask));
    for (int64_t i = 0; i < n; i++)
        POL_TRY(pol_forward_queue(l->f->forward[l->which], l->f->ids + index[i] * S, 1, S, NULL, loss + i));
    return POL_OK;
}

static pol_status settle(void *user)
{
    const learner *l = user;
    return pol_forward_settle(l->f->forward[l->which]);
}

static void drop(void *user)
{
    const learner *l = user;
    pol_forward_drop(l->f->forward[l->which]);
}

enum { STEPS = 20, STOP = 9 };

typedef struct lesson {
    learner l;
    pol_distribution *d;
    pol_trainer *t;
} lesson;

static void begin_lesson(fixture *f, int which, lesson *x)
{
    pol_learn_settings o;
    pol_learn_units(0, &o);
    o.steps = STEPS;
    o.mask_samples = 4;
    o.sequences_per_mask = 2;
    o.learning_rate = 0.05;
    o.budget = (pol_budget){.mode = POL_BUDGET_SEPARATE, .keep = {0.7, 0.7, 0.7, 0.7}};
    x->l = (learner){f, which};
    assert_ok(f->ctx, pol_distribution_new(f->units, POL_HEADS | POL_CHANNELS | POL_BLOCKS, &x->d));
    for (int64_t i = 0; i < f->units->n; i++)
        x->d->s[i] = 0.7f;
    assert_ok(f->ctx,
              pol_trainer_new(f->ctx, &o, x->d, SEQUENCES,
                              &(pol_losses){.look = look, .settle = settle, .drop = drop, .user = &x->l}, &x->t));
}

static void end_lesson(lesson *x)
{
    pol_trainer_free(x->t);
    pol_distribution_free(x->d);
}

/* Twenty steps, streamed, are those of the resident model; and those of a run that stops and goes on with its order of
 * units, wherever its weights are then. */
static void test_learning_and_resuming(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, "models/llama-linear-bias");
    const size_t bytes = (size_t)f.units->n * sizeof(float);
    lesson x[2];
    for (int k = 0; k < 2; k++) {
        begin_lesson(&f, k, &x[k]);
        while (pol_trainer_next(x[k].t) < STEPS)
            assert_ok(f.ctx, pol_trainer_step(x[k].t, NULL));
    }
    assert_memory_equal(x[0].d->s, x[1].d->s, bytes);
    int64_t moved = 0;
    for (int64_t i = 0; i < f.units->n; i++)
        moved += fabsf(x[0].d->s[i] - 0.7f) > 0.05f;
    assert_true(moved > f.units->n / 4);
    check_order(&f);

    for (int from = 0; from < 2; from++) {
        fixture g, h;
        lesson first, second;
        open_fixture(&g, "models/llama-linear-bias");
        begin_lesson(&g, from, &first);
        while (pol_trainer_next(first.t) < STOP)
            assert_ok(g.ctx, pol_trainer_step(first.t, NULL));
        const int64_t n = pol_model_order_size(g.model[from]);
        int32_t *order = malloc((size_t)n * sizeof *order);
        int64_t next;
        pol_estimator e;
        float *s = malloc(bytes);
        pol_model_get_order(g.model[from], order);
        pol_trainer_get(first.t, &next, &e);
        memcpy(s, first.d->s, bytes);
        end_lesson(&first);
        close_fixture(&g);

        open_fixture(&h, "models/llama-linear-bias");
        begin_lesson(&h, 1 - from, &second);
        memcpy(second.d->s, s, bytes);
        late.swaps = 0;
        assert_ok(h.ctx, pol_model_set_order(h.model[1 - from], order));
        assert_true(1 - from == RESIDENT || late.swaps == 0); /* books alone */
        assert_ok(h.ctx, pol_trainer_set(second.t, next, &e));
        while (pol_trainer_next(second.t) < STEPS)
            assert_ok(h.ctx, pol_trainer_step(second.t, NULL));
        assert_memory_equal(second.d->s, x[0].d->s, bytes);
        order[0] = order[1];
        assert_int_equal(pol_model_set_order(h.model[STREAMED], order), POL_EARG);
        end_lesson(&second);
        close_fixture(&h);
        free(order);
        free(s);
    }
    for (int k = 0; k < 2; k++)
        end_lesson(&x[k]);
    close_fixture(&f);
}

/* ---- failures ---- */

/* Whatever call fails, nothing stays pending, and what comes next is right: no row that lies wrong is used. */
static void test_every_failure(void **state)
{
    (void)state;
    fixture f;
    int64_t failed = 0;
    open_fixture(&f, "models/llama-linear-bias");
    for (int64_t n = 0;; n += 1 + n / 40, failed++) {
        double loss[3] = {-1, -1, -1};
        pol_status s = POL_OK;
        late.fail_in = n;
        for (uint64_t i = 0; i < 3 && s == POL_OK; i++) {
            draw(f.units, 100 + i, 0.6f, f.mask);
            s = pol_model_set_mask(f.model[STREAMED], f.mask);
            assert_ok(f.ctx, pol_model_set_mask(f.model[RESIDENT], f.mask));
            if (s == POL_OK)
                s = pol_forward_queue(f.forward[STREAMED], f.ids, 1, S, NULL, &loss[i]);
        }
        if (s == POL_OK)
            s = pol_forward_settle(f.forward[STREAMED]);
        const bool all = late.fail_in >= 0;
        late.fail_in = -1;
        if (all) {
            assert_ok(f.ctx, s);
            break;
        }
        assert_int_equal(s, POL_EDEVICE);
        late.syncs = 0;
        assert_ok(f.ctx, pol_forward_settle(f.forward[STREAMED]));
        assert_int_equal(late.syncs, 0);
        for (int i = 0; i < 3; i++)
            assert_true(loss[i] == -1);
        if (failed % 5 == 0) {
            int32_t *order = malloc((size_t)pol_model_order_size(f.model[STREAMED]) * sizeof *order);
            pol_model_get_order(f.model[STREAMED], order); /* masks that the failure left out are no matter here */
            assert_ok(f.ctx, pol_model_set_order(f.model[RESIDENT], order));
            free(order);
            check_passes(&f, 1, 3);
        }
    }
    assert_true(failed > 60);
    close_fixture(&f);
}

/* What was fetched for passes that are dropped does for others; a step through other layers takes the slots meanwhile.
 */
static void test_dropped_passes(void **state)
{
    (void)state;
    fixture f;
    double loss = -1;
    open_fixture(&f, "models/llama-gqa-tied");
    late.streams = 0;
    assert_ok(f.ctx, pol_forward_queue(f.forward[STREAMED], f.ids, 1, S, NULL, &loss));
    pol_forward_drop(f.forward[STREAMED]);
    check_passes(&f, 0, 3);
    assert_int_equal(late.streams, buffers_filled(&f, 1));
    assert_ok(f.ctx, pol_forward_queue(f.forward[STREAMED], f.ids, 1, S, NULL, &loss));
    pol_forward_drop(f.forward[STREAMED]);
    pol_layer_weights w;
    assert_ok(f.ctx, pol_model_layer(f.model[STREAMED], 2, &w));
    check_passes(&f, 5, 3);
    assert_true(loss == -1);
    close_fixture(&f);
}

/* ---- memory ---- */

/* Nothing more and nothing less than planned, with a backend whose buffers are aligned. */
static void test_planned_is_taken(void **state)
{
    (void)state;
    static const char *const names[] = {"models/llama-linear-bias", "models/trained", "models/mistral-window"};
    for (size_t i = 0; i < POL_COUNT(names); i++) {
        fixture f;
        open_fixture(&f, names[i]);
        const pol_config *c = pol_model_config(f.model[STREAMED]);
        for (int k = 0; k < 2; k++) {
            const pol_placement *p = k == STREAMED ? &five : NULL;
            assert_int_equal(f.be[k]->bytes_in_use,
                             pol_model_bytes(c, f.be[k], p) + pol_forward_bytes(c, f.be[k], p, B * S, S));
            assert_int_equal(f.be[k]->bytes_in_use % 256, 0);
        }
        check_passes(&f, 1, 7);
        for (int k = 0; k < 2; k++)
            assert_int_equal(f.be[k]->bytes_in_use, f.be[k]->bytes_peak);
        /* More layers at home cost the device only their norms; more cells only their streams and targets. */
        assert_true(pol_model_bytes(c, f.be[0], &five) < pol_model_bytes(c, f.be[0], NULL));
        assert_int_equal(pol_model_home_bytes(c, f.be[0]) % 64, 0);
        close_fixture(&f);
    }
}

/* Memory that runs out anywhere while a model is loaded leaves none behind (the sanitizer looks), nor a backend that
 * has no way to stream. */
static pol_status no_buffer(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out)
{
    POL_TRY(late_fault(be, "buf_new"));
    return late.real->buf_new(be, dtype, rows, row, out);
}

static pol_status no_host_memory(pol_backend *be, size_t bytes, void **out)
{
    POL_TRY(late_fault(be, "host_new"));
    return late.real->host_new(be, bytes, out);
}

static void test_loading_fails(void **state)
{
    (void)state;
    pol_context *ctx;
    pol_source *src;
    pol_backend *be;
    pol_model *m;
    pol_forward *f;
    int64_t failed = 0;
    assert_int_equal(pol_context_new(NULL, &ctx), POL_OK);
    assert_ok(ctx, pol_source_open(ctx, test_file("models/llama-linear-bias"), &src));
    assert_ok(ctx, pol_reference_open(ctx, &be));
    late_start(be);
    pol_ops ops = *be->ops;
    ops.buf_new = no_buffer;
    ops.host_new = no_host_memory;
    be->ops = &ops;
    for (int64_t n = 0;; n++, failed++) {
        late.fail_in = n;
        pol_status s = pol_model_load(src, be, &five, &m);
        if (s == POL_OK)
            s = pol_forward_new(m, B * S, S, &f);
        const bool all = late.fail_in >= 0;
        late.fail_in = -1;
        if (all) {
            pol_forward_free(f);
            pol_model_free(m);
            break;
        }
        assert_int_equal(s, POL_EDEVICE);
        pol_model_free(m);
        assert_int_equal(be->bytes_in_use, 0);
    }
    assert_true(failed > 40);
    assert_fails(ctx, pol_model_load(src, be, &(pol_placement){true, 0}, &m), POL_EARG, "0 passes a visit are not");
    assert_fails(ctx, pol_model_load(src, be, &(pol_placement){true, POL_MAX_CELLS + 1}, &m), POL_EARG, "65 passes");
    assert_null(m);
    ops.stream_in = NULL;
    assert_fails(ctx, pol_model_load(src, be, &five, &m), POL_EUNSUPPORTED, "has no way to stream");
    assert_null(m);
    late_end();
    pol_backend_close(be);
    pol_source_close(src);
    pol_context_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models_as_published),
        cmocka_unit_test(test_layers_of_all_sizes),
        cmocka_unit_test(test_types_at_home),
        cmocka_unit_test(test_cells),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_steps_settle_passes),
        cmocka_unit_test(test_evaluation),
        cmocka_unit_test(test_learning_and_resuming),
        cmocka_unit_test(test_every_failure),
        cmocka_unit_test(test_dropped_passes),
        cmocka_unit_test(test_planned_is_taken),
        cmocka_unit_test(test_loading_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

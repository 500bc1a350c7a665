/* test_streamed.c - models whose layers visit the device: every number is that of the resident model, and a layer comes
 * once for all passes that are queued. */
#include "core/base/file.h"
#include "core/forward.h"
#include "pollard/eval.h"
#include "pollard/export.h"
#include "pollard/learn.h"
#include "pollard/score.h"
#include "tests/unit/streamed.h"

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

/* A layer travels while others are computed: the first two while masks are drawn and ids embedded, each further one
 * beside the one before it. */
static void test_copies_run_beside_computing(void **state)
{
    (void)state;
    fixture f;
    double loss;
    open_fixture(&f, "models/trained");
    late.streams = late.idle_waits = 0;
    for (int i = 0; i < 3; i++) {
        assert_ok(f.ctx, pol_forward_queue(f.forward[STREAMED], f.ids, 1, S, NULL, &loss));
        assert_int_equal(late.streams, 8); /* four of each of two layers */
    }
    assert_ok(f.ctx, pol_forward_settle(f.forward[STREAMED]));
    assert_int_equal(late.streams, buffers_filled(&f, 1));
    assert_int_equal(late.idle_waits, 0);
    close_fixture(&f);
}

/* Passes that have set out, one layer or all the way, take no one along who comes later; dropped on the way they do not
 * hinder him. */
static void test_passes_that_have_set_out(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, "models/llama-gqa-tied");
    pol_forward *forward = f.forward[STREAMED];
    const int32_t parts = f.model[STREAMED]->config.n_layers + 1; /* the scores come after the layers */
    for (int32_t way = 1; way <= parts; way++) {
        double got[3] = {-1, -1, -1}, want[3];
        bool more = true;
        set_mask(&f, (uint64_t)way);
        for (int k = 0; k < 2; k++)
            assert_ok(f.ctx, pol_forward_queue(forward, f.ids, 1, S, NULL, &got[k]));
        for (int32_t i = 0; i < way; i++) {
            assert_true(more);
            assert_ok(f.ctx, pol_forward_advance(forward, &more));
        }
        assert_int_equal(more, way < parts);
        if (way % 2)
            pol_forward_drop(forward);
        assert_ok(f.ctx, pol_forward_queue(forward, f.ids + 3, 1, S, NULL, &got[2]));
        assert_true(got[2] == -1 && (got[0] == -1) == way % 2);
        assert_ok(f.ctx, pol_forward_settle(forward));
        for (int k = 0; k < 3; k++)
            assert_ok(f.ctx, pol_forward_nll(f.forward[RESIDENT], f.ids + (k == 2 ? 3 : 0), 1, S, NULL, &want[k]));
        assert_true(got[0] == (way % 2 ? -1 : want[0]) && got[1] == (way % 2 ? -1 : want[1]) && got[2] == want[2]);
    }
    close_fixture(&f);
}

/* ---- steps ---- */

/* What a metric finds looks into layers one by one. */
static void test_metrics(void **state)
{
    (void)state;
    const double keep[POL_UNIT_KINDS] = {0.6, 0.6, 0.9, 0.9};
    static const pol_metric metrics[] = {POL_METRIC_WANDA_SP, POL_METRIC_FLAP, POL_METRIC_MAGNITUDE};
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
        assert_ok(f.ctx, pol_forward_queue(f.forward[k], f.ids, B, S, NULL, loss[k]));
        loss[k][0] = 0;
        assert_ok(f.ctx, pol_forward_put(f.forward[k], x[k], B, S));
        assert_true(loss[k][0] > 0);
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

static void go_on(fixture *f, lesson *x, int64_t until)
{
    while (pol_trainer_next(x->t) < until)
        assert_ok(f->ctx, pol_trainer_step(x->t, NULL));
}

/* Twenty steps are those of the resident model; *s, yours, is what they come to. */
static float *learn_whole(int64_t *n)
{
    fixture f;
    lesson x[2];
    open_fixture(&f, "models/llama-linear-bias");
    for (int k = 0; k < 2; k++) {
        begin_lesson(&f, k, &x[k]);
        go_on(&f, &x[k], STEPS);
    }
    *n = f.units->n;
    float *s = malloc((size_t)*n * sizeof *s);
    memcpy(s, x[STREAMED].d->s, (size_t)*n * sizeof *s);
    assert_memory_equal(s, x[RESIDENT].d->s, (size_t)*n * sizeof *s);
    check_order(&f);
    for (int k = 0; k < 2; k++)
        end_lesson(&x[k]);
    close_fixture(&f);
    return s;
}

/* What a checkpoint holds. */
typedef struct saved {
    int64_t next;
    pol_estimator e;
    float *s;
    int32_t *order;
} saved;

static void learn_first_part(int which, saved *to)
{
    fixture f;
    lesson x;
    open_fixture(&f, "models/llama-linear-bias");
    begin_lesson(&f, which, &x);
    go_on(&f, &x, STOP);
    to->s = malloc((size_t)f.units->n * sizeof *to->s);
    to->order = malloc((size_t)pol_model_order_size(f.model[which]) * sizeof *to->order);
    memcpy(to->s, x.d->s, (size_t)f.units->n * sizeof *to->s);
    pol_model_get_order(f.model[which], to->order);
    pol_trainer_get(x.t, &to->next, &to->e);
    end_lesson(&x);
    close_fixture(&f);
}

static void learn_rest(int which, saved *from, const float *want)
{
    fixture f;
    lesson x;
    open_fixture(&f, "models/llama-linear-bias");
    begin_lesson(&f, which, &x);
    memcpy(x.d->s, from->s, (size_t)f.units->n * sizeof *from->s);
    late.swaps = 0;
    assert_ok(f.ctx, pol_model_set_order(f.model[which], from->order));
    assert_true(which == RESIDENT || late.swaps == 0); /* books alone */
    assert_ok(f.ctx, pol_trainer_set(x.t, from->next, &from->e));
    go_on(&f, &x, STEPS);
    assert_memory_equal(x.d->s, want, (size_t)f.units->n * sizeof *want);
    from->order[0] = from->order[1];
    assert_int_equal(pol_model_set_order(f.model[which], from->order), POL_EARG);
    end_lesson(&x);
    close_fixture(&f);
}

/* A run that stops and goes on with its order of units is the run that did not stop, wherever its weights were before
 * and are then. */
static void test_learning_and_resuming(void **state)
{
    (void)state;
    int64_t n, moved = 0;
    float *whole = learn_whole(&n);
    for (int64_t i = 0; i < n; i++)
        moved += fabsf(whole[i] - 0.7f) > 0.05f;
    assert_true(moved > n / 4);
    for (int way = 0; way < 4; way++) {
        saved part;
        learn_first_part(way / 2, &part);
        learn_rest(way % 2, &part, whole);
        free(part.s);
        free(part.order);
    }
    free(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models_as_published),         cmocka_unit_test(test_layers_of_all_sizes),
        cmocka_unit_test(test_copies_run_beside_computing), cmocka_unit_test(test_cells),
        cmocka_unit_test(test_passes_that_have_set_out),    cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_steps_settle_passes),         cmocka_unit_test(test_evaluation),
        cmocka_unit_test(test_learning_and_resuming),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

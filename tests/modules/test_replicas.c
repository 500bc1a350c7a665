/* test_replicas.c - a model on several devices: who computes which pass, when it is waited for, and that no bit of a
 * number tells how many there are. The devices are the CPU, several times. */
#include "core/base/rng.h"
#include "core/eval/eval.h"
#include "core/forward.h"
#include "core/model/source.h"
#include "pollard/score.h"
#include "tests/test.h"

enum { MOST = 3, S = 16, BATCH = 2, PASSES = 7, MASKS = 4, CELLS = 5 };

/* Which device is small. */
enum { NONE = -1, ALL = -2 };

typedef struct team {
    pol_context *ctx;
    pol_source *src;
    pol_backend *devices[MOST];
    pol_ops ops[MOST];
    pol_memory memory[MOST];
    pol_replicas r;
    int32_t ids[PASSES * BATCH * S];
    uint8_t *masks; /* [MASKS, units] */
    int64_t units;
} team;

/* What the devices are asked for, in order: "l1" layers are sent to device 1, "p1" the end of a pass on it, "w1" it is
 * waited for. */
static char trace[1024];
static const pol_ops *below;
static int broken = -1; /* the device whose passes and changes of mask fail */
static int lost = -1;   /* the device that fails when it is waited for */

static pol_status traced_nll(pol_backend *be, const pol_nll_args *a)
{
    sprintf(trace + strlen(trace), "p%d ", be->info.index);
    return be->info.index == broken ? pol_fail(be->ctx, POL_EDEVICE, "planted") : below->nll(be, a);
}

static pol_status traced_sync(pol_backend *be)
{
    sprintf(trace + strlen(trace), "w%d ", be->info.index);
    return be->info.index == lost ? pol_fail(be->ctx, POL_EDEVICE, "planted") : below->sync(be);
}

static pol_status traced_stream_in(pol_backend *be, pol_buf *dst, const void *src, int64_t n)
{
    char now[8];
    const size_t said = strlen(trace), length = (size_t)sprintf(now, "l%d ", be->info.index);
    if (said < length || strcmp(trace + said - length, now) != 0) /* a layer is several buffers */
        strcat(trace, now);
    return below->stream_in(be, dst, src, n);
}

static pol_status failing_swap(pol_backend *be, const pol_swap_args *a, int64_t n)
{
    return be->info.index == broken ? pol_fail(be->ctx, POL_EDEVICE, "planted") : below->swap_units(be, a, n);
}

static void open_devices(team *t, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        assert_ok(t->ctx,
                  pol_backend_open(t->ctx, &(pol_backend_options){.name = "cpu", .threads = 1}, &t->devices[i]));
        below = t->devices[i]->ops;
        t->ops[i] = *below;
        t->ops[i].nll = traced_nll;
        t->ops[i].sync = traced_sync;
        t->ops[i].swap_units = failing_swap;
        t->ops[i].stream_in = traced_stream_in;
        t->devices[i]->ops = &t->ops[i];
        t->devices[i]->info.index = (int32_t)i;
    }
}

/* Memory as planned; a device that is small has no room for all layers at once, which then visit it. */
static void plan(team *t, int64_t n, int64_t small)
{
    const pol_memory_request r = {.max_tokens = BATCH * S, .max_seq_len = S, .cells = CELLS};
    for (int64_t i = 0; i < n; i++) {
        pol_memory *m = &t->memory[i];
        const bool is_small = i == small || small == ALL;
        pol_memory_plan(pol_source_config(t->src), t->devices[i], &r, m);
        if (is_small) {
            t->devices[i]->info.host_memory = false;
            t->devices[i]->info.memory_bytes = m->weight_bytes + m->activation_bytes - 1;
            pol_memory_plan(pol_source_config(t->src), t->devices[i], &r, m);
        }
        assert_int_equal(m->placement.streamed, is_small);
    }
}

static void open_team_with(team *t, int64_t n, int64_t small)
{
    memset(t, 0, sizeof *t);
    broken = lost = -1;
    assert_int_equal(pol_context_new(NULL, &t->ctx), POL_OK);
    assert_ok(t->ctx, pol_source_open(t->ctx, test_file("models/trained"), &t->src));
    open_devices(t, n);
    plan(t, n, small);
    assert_ok(t->ctx, pol_replicas_open(t->src, t->devices, t->memory, n, BATCH * S, S, &t->r));
    float u[PASSES * BATCH * S];
    pol_uniform(5, POL_STREAM_TEST, 0, 0, PASSES * BATCH * S, u);
    for (int i = 0; i < PASSES * BATCH * S; i++)
        t->ids[i] = (int32_t)(u[i] * (float)pol_source_config(t->src)->vocab);
    t->units = pol_model_units(t->r.of[0].model)->n;
    t->masks = malloc((size_t)(MASKS * t->units));
    float *keep = malloc((size_t)t->units * sizeof *keep);
    for (uint32_t k = 0; k < MASKS; k++) {
        pol_uniform(7, POL_STREAM_TEST, k, 0, t->units, keep);
        for (int64_t i = 0; i < t->units; i++)
            t->masks[k * t->units + i] = keep[i] < 0.6f;
    }
    free(keep);
    trace[0] = 0;
}

static void open_team(team *t, int64_t n) { open_team_with(t, n, NONE); }

static void close_team(team *t)
{
    const int64_t n = t->r.n;
    pol_replicas_close(&t->r);
    for (int64_t i = 0; i < MOST && (n == 0 || i < n); i++)
        pol_backend_close(t->devices[i]);
    pol_source_close(t->src);
    pol_context_free(t->ctx);
    free(t->masks);
}

/* Some passes under each mask, as a step has them. */
static void step(team *t, int64_t passes, double *loss)
{
    for (int64_t k = 0; k < MASKS; k++) {
        assert_ok(t->ctx, pol_replicas_set_mask(&t->r, t->masks + k * t->units));
        for (int64_t i = 0; i < passes; i++, loss += BATCH)
            assert_ok(t->ctx, pol_replicas_queue(&t->r, t->ids + i * BATCH * S, BATCH, S, NULL, loss));
    }
    assert_ok(t->ctx, pol_replicas_settle(&t->r));
}

static void test_dealt_in_turn(void **state)
{
    (void)state;
    team t;
    double loss[MASKS * PASSES * BATCH];
    open_team(&t, 3);
    step(&t, 2, loss); /* counted over masks */
    assert_string_equal(trace, "p0 p1 p2 p0 p1 p2 p0 p1 w0 w1 w2 ");
    trace[0] = 0;
    step(&t, 1, loss); /* beginning with the first again */
    assert_string_equal(trace, "p0 p1 p2 p0 w0 w1 w2 ");
    trace[0] = 0;
    assert_ok(t.ctx, pol_replicas_queue(&t.r, t.ids, BATCH, S, NULL, loss));
    pol_replicas_drop(&t.r);
    assert_ok(t.ctx, pol_replicas_queue(&t.r, t.ids, BATCH, S, NULL, loss));
    assert_ok(t.ctx, pol_replicas_settle(&t.r));
    assert_string_equal(trace, "p0 p0 w0 ");
    close_team(&t);
}

/* Devices that layers visit work side by side: none is waited for before all have their work, layer by layer, nor where
 * there is no room for more passes. */
static void test_visits_side_by_side(void **state)
{
    (void)state;
    team t;
    double loss[MASKS * PASSES * BATCH];
    open_team_with(&t, 2, ALL);
    step(&t, 1, loss);
    assert_string_equal(trace, "l0 l1 l0 l1 l0 l1 p0 p0 p1 p1 w0 w1 ");
    trace[0] = 0;
    step(&t, 3, loss); /* six on each */
    assert_string_equal(trace, "l0 l1 l0 l1 l0 l1 p0 p0 p0 p0 p0 p1 p1 p1 p1 p1 w0 l0 w1 l1 l0 l1 l0 l1 p0 p1 w0 w1 ");
    for (int i = 0; i < MASKS * 3 * BATCH; i++)
        assert_true(loss[i] > 0);
    close_team(&t);
}

static void test_evaluation_is_dealt_too(void **state)
{
    (void)state;
    team t;
    pol_perplexity p;
    open_team(&t, 3);
    const pol_sequences text = {.ctx = t.ctx, .ids = t.ids, .n = PASSES * BATCH, .seq_len = S};
    assert_ok(t.ctx, pol_eval_replicas(&t.r, &text, NULL, NULL, &p));
    assert_string_equal(trace, "p0 p1 p2 p0 p1 p2 p0 w0 w1 w2 ");
    close_team(&t);
}

/* Everything that goes on in a run, in the order of one. */
static void numbers(int64_t n, int64_t small, double *loss, float *metric, pol_perplexity *p, int32_t *order)
{
    team t;
    open_team_with(&t, n, small);
    const pol_sequences text = {.ctx = t.ctx, .ids = t.ids, .n = PASSES * BATCH, .seq_len = S};
    static const double keep[POL_UNIT_KINDS] = {0.6, 0.6, 0.6, 0.6};
    assert_ok(t.ctx, pol_metric_compute(t.r.of[0].forward, POL_METRIC_WANDA_SP, &text, POL_HEADS | POL_CHANNELS, keep,
                                        1, metric, NULL));
    assert_ok(t.ctx, pol_replicas_follow_first(&t.r));
    step(&t, PASSES, loss);
    step(&t, 1, loss + MASKS * PASSES * BATCH);
    assert_ok(t.ctx, pol_eval_replicas(&t.r, &text, NULL, NULL, p));
    pol_model_get_order(t.r.of[0].model, order);
    close_team(&t);
}

static void test_no_bit_tells(void **state)
{
    (void)state;
    enum { LOSSES = MASKS * (PASSES + 1) * BATCH, UNITS = 4096 };
    static const struct {
        int64_t n, small;
    } teams[] = {{1, NONE}, {2, NONE}, {3, NONE}, {3, 1}, {2, 0}, {2, ALL}};
    static double loss[POL_COUNT(teams)][LOSSES];
    static float metric[POL_COUNT(teams)][UNITS];
    static int32_t order[POL_COUNT(teams)][UNITS];
    pol_perplexity p[POL_COUNT(teams)];
    for (size_t i = 0; i < POL_COUNT(teams); i++)
        numbers(teams[i].n, teams[i].small, loss[i], metric[i], &p[i], order[i]);
    for (size_t i = 1; i < POL_COUNT(teams); i++) {
        assert_memory_equal(loss[i], loss[0], sizeof loss[0]);
        assert_memory_equal(metric[i], metric[0], sizeof metric[0]);
        assert_memory_equal(order[i], order[0], sizeof order[0]);
        assert_memory_equal(&p[i].nll, &p[0].nll, sizeof(double));
        assert_memory_equal(&p[i].standard_error, &p[0].standard_error, sizeof(double));
    }
    for (int i = 1; i < MASKS; i++) /* of different masks */
        assert_true(loss[0][i * PASSES * BATCH] != loss[0][0]);
}

/* After work on the first alone, and after a given order, all lie alike. */
static void test_one_order(void **state)
{
    (void)state;
    team t;
    open_team(&t, 3);
    const int64_t size = pol_model_order_size(t.r.of[0].model);
    int32_t *first = malloc((size_t)size * sizeof *first), *other = malloc((size_t)size * sizeof *other);
    pol_model_get_order(t.r.of[2].model, other);
    assert_ok(t.ctx, pol_model_set_mask(t.r.of[0].model, t.masks));
    pol_model_get_order(t.r.of[0].model, first);
    assert_memory_not_equal(first, other, (size_t)size * sizeof *first);
    assert_ok(t.ctx, pol_replicas_follow_first(&t.r));
    for (int64_t i = 0; i < 3; i++) {
        pol_model_get_order(t.r.of[i].model, other);
        assert_memory_equal(first, other, (size_t)size * sizeof *first);
    }
    for (int64_t i = 0; i < size; i++)
        other[i] = (int32_t)i;
    assert_ok(t.ctx, pol_replicas_set_order(&t.r, other));
    for (int64_t i = 0; i < 3; i++) {
        pol_model_get_order(t.r.of[i].model, first);
        assert_memory_equal(first, other, (size_t)size * sizeof *first);
    }
    free(first);
    free(other);
    close_team(&t);
}

static void test_failures_name_the_device(void **state)
{
    (void)state;
    team t;
    double loss[3 * BATCH] = {-1, -1, -1, -1, -1, -1};
    open_team(&t, 3);
    char named[256];
    snprintf(named, sizeof named, "cpu 2 (%s): planted", t.devices[2]->info.name);
    broken = 2;
    for (int i = 0; i < 2; i++)
        assert_ok(t.ctx, pol_replicas_queue(&t.r, t.ids, BATCH, S, NULL, loss + i * BATCH));
    assert_fails(t.ctx, pol_replicas_queue(&t.r, t.ids, BATCH, S, NULL, loss + 2 * BATCH), POL_EDEVICE, named);
    assert_ok(t.ctx, pol_replicas_settle(&t.r));
    for (int i = 0; i < 3 * BATCH; i++)
        assert_true(loss[i] == -1); /* what was dropped is never written */
    assert_fails(t.ctx, pol_replicas_set_mask(&t.r, t.masks), POL_EDEVICE, named);
    close_team(&t);
    /* A late fault: what the others have not handed out yet is dropped. */
    open_team(&t, 3);
    lost = 1;
    for (int i = 0; i < 3; i++)
        assert_ok(t.ctx, pol_replicas_queue(&t.r, t.ids, BATCH, S, NULL, loss + i * BATCH));
    assert_fails(t.ctx, pol_replicas_settle(&t.r), POL_EDEVICE, "cpu 1 (");
    lost = -1;
    assert_ok(t.ctx, pol_replicas_settle(&t.r));
    assert_true(loss[0] > 0 && loss[2] == -1 && loss[4] == -1);
    close_team(&t);
    /* One alone needs no name; nor does a stop, which is nobody's fault. */
    open_team(&t, 1);
    broken = 0;
    assert_fails(t.ctx, pol_replicas_queue(&t.r, t.ids, BATCH, S, NULL, loss), POL_EDEVICE, "planted");
    assert_string_equal(pol_error_text(t.ctx), "planted");
    close_team(&t);
    open_team(&t, 2);
    pol_context_stop(t.ctx);
    assert_fails(t.ctx, pol_replicas_on(&t.r, 1, pol_check_stop(t.ctx)), POL_EINTERRUPTED, "");
    assert_null(strstr(pol_error_text(t.ctx), "cpu 1"));
    close_team(&t);
}

/* The second device has no room: what the first has is given back, and the failure is the second's. */
static pol_status no_room(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out)
{
    return be->info.index == 1 ? pol_fail(be->ctx, POL_ENOMEM, "planted") : below->buf_new(be, dtype, rows, row, out);
}

static void test_no_room_on_the_second(void **state)
{
    (void)state;
    team t = {0};
    assert_int_equal(pol_context_new(NULL, &t.ctx), POL_OK);
    assert_ok(t.ctx, pol_source_open(t.ctx, test_file("models/trained"), &t.src));
    open_devices(&t, 2);
    plan(&t, 2, NONE);
    t.ops[0].buf_new = t.ops[1].buf_new = no_room;
    assert_fails(t.ctx, pol_replicas_open(t.src, t.devices, t.memory, 2, BATCH * S, S, &t.r), POL_ENOMEM, "cpu 1 (");
    assert_null(t.r.of);
    assert_int_equal(t.devices[0]->bytes_in_use, 0);
    assert_true(t.devices[0]->bytes_peak > 0);
    close_team(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dealt_in_turn),
        cmocka_unit_test(test_visits_side_by_side),
        cmocka_unit_test(test_evaluation_is_dealt_too),
        cmocka_unit_test(test_no_bit_tells),
        cmocka_unit_test(test_one_order),
        cmocka_unit_test(test_failures_name_the_device),
        cmocka_unit_test(test_no_room_on_the_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

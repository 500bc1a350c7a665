/* test_repair_request.c - pol_repair() as a program calls it: what it tells, what it takes, what it leaves. */
#include "core/base/json.h"
#include "pollard/run.h"
#include "tests/unit/repair_model.h"

typedef struct heard {
    pol_repair_plan plan;
    char stages[256];
    int64_t layers;
} heard;

static void on_plan(void *user, const pol_repair_plan *p) { ((heard *)user)->plan = *p; }

static void on_stage(void *user, const char *name)
{
    heard *h = user;
    snprintf(h->stages + strlen(h->stages), sizeof h->stages - strlen(h->stages), "%s;", name);
}

static void on_progress(void *user, int64_t done, int64_t total)
{
    heard *h = user;
    assert_true(done <= total);
    h->layers = done;
}

/* Places that outlive the few that test_file() remembers. */
static char model[256], calibration[256];

static void make_mask(fixture *f)
{
    pol_source *src;
    pol_units *u;
    snprintf(model, sizeof model, "%s", test_file("models/trained"));
    snprintf(calibration, sizeof calibration, "%s", test_file("text/calibration.txt"));
    assert_ok(f->ctx, pol_source_open(f->ctx, model, &src));
    assert_ok(f->ctx, pol_units_new(f->ctx, pol_source_config(src), &u));
    f->mask = malloc((size_t)u->n);
    for (int64_t i = 0; i < u->n; i++)
        f->mask[i] = i >= u->n_of[POL_UNIT_GROUP] + u->n_of[POL_UNIT_CHANNEL] || i % 3 != 1;
    assert_ok(f->ctx, pol_mask_write(f->ctx, in(f, "mask.json"), u, POL_HEADS | POL_CHANNELS, f->mask, NULL));
    pol_units_free(u);
    pol_source_close(src);
}

static pol_repair_request request_of(fixture *f, const char *const *data)
{
    pol_repair_request o;
    pol_repair_request_defaults(&o);
    o.run = in(f, "run");
    o.mask = in(f, "mask.json");
    o.model = model;
    o.data = data;
    o.n_data = 1;
    o.seq_len = 32;
    o.repair.sequences = 40;
    o.held_out = 8;
    o.backend = (pol_backend_options){.name = "cpu", .threads = 1};
    return o;
}

static void test_plan_is_kept(void **state)
{
    fixture *f = *state;
    const char *data = calibration;
    pol_repair_result r;
    make_mask(f);
    for (int i = 0; i < 3; i++) {
        heard h = {0};
        const pol_repair_observer watch = {&h, on_plan, on_stage, on_progress};
        pol_repair_request o = request_of(f, &data);
        o.repair.kind = i == 2 ? POL_REPAIR_BIAS : POL_REPAIR_RIDGE;
        o.repair.refit_inputs = i == 1 ? 0.5 : 0;
        o.resume = i > 0;
        assert_ok(f->ctx, pol_repair(f->ctx, &o, &watch, &r));
        assert_string_equal(h.stages, r.repair.kind ? "loading weights;dense model;mask alone;repair;repaired model;"
                                                    : "loading weights;dense model;mask alone;repair;");
        assert_int_equal(h.layers, 4);
        const pol_memory *m = &h.plan.memory;
        assert_int_equal(m->weight_bytes + m->activation_bytes + m->repair_bytes, r.peak_device_bytes);
        assert_int_equal(h.plan.passes, r.sequences[POL_PURPOSE_REPAIR] + r.sequences[POL_PURPOSE_HELD_OUT]);
        assert_int_equal(h.plan.sequences, 40);
        assert_int_equal(h.plan.columns, 64);
        assert_int_equal(r.repair.sequences, 40);
        assert_true(r.dense.held_out < r.masked.held_out);
        assert_near(r.repair.masked, r.masked.held_out, 0);
    }
    /* All that is left of it is in the target of the run. */
    pol_target t;
    assert_ok(f->ctx, pol_target_open(f->ctx, in(f, "run"), NULL, &t));
    assert_int_equal(t.repaired != NULL, r.repair.kind != POL_REPAIR_NONE);
    assert_int_equal(t.granularity, POL_HEADS | POL_CHANNELS);
    pol_target_bare(&t);
    assert_null(t.repaired);
    pol_target_close(&t);
}

static void test_failures_leave_no_folder(void **state)
{
    fixture *f = *state;
    const char *data = calibration, *none = "/nowhere/none.txt";
    pol_repair_result r;
    make_mask(f);
    pol_repair_request o = request_of(f, &data);
    o.held_out = 0;
    assert_fails(f->ctx, pol_repair(f->ctx, &o, NULL, &r), POL_EARG, "held-out sequences: 0");
    o = request_of(f, &data);
    o.repair.kind = POL_REPAIR_NONE;
    assert_fails(f->ctx, pol_repair(f->ctx, &o, NULL, &r), POL_EARG, "'none'");
    o = request_of(f, &data);
    o.model = NULL;
    assert_fails(f->ctx, pol_repair(f->ctx, &o, NULL, &r), POL_EARG, "without the model");
    o = request_of(f, &data);
    o.n_data = 0;
    assert_fails(f->ctx, pol_repair(f->ctx, &o, NULL, &r), POL_EARG, "no calibration text");
    o = request_of(f, &none);
    assert_fails(f->ctx, pol_repair(f->ctx, &o, NULL, &r), POL_EIO, "none.txt");
    o = request_of(f, &data);
    o.held_out = 1 << 20;
    assert_fails(f->ctx, pol_repair(f->ctx, &o, NULL, &r), POL_EFORMAT, "too few to hold 1048576 out");
    o = request_of(f, &data);
    o.memory_limit = 1 << 16;
    assert_fails(f->ctx, pol_repair(f->ctx, &o, NULL, &r), POL_ELIMIT, "needs");
    pol_context_stop(f->ctx);
    o = request_of(f, &data);
    assert_fails(f->ctx, pol_repair(f->ctx, &o, NULL, &r), POL_EINTERRUPTED, "stopped");
    pol_context_resume(f->ctx);
    o = request_of(f, &data);
    o.repair.sequences = 7;
    assert_fails(f->ctx, pol_repair(f->ctx, &o, NULL, &r), POL_ELIMIT, "224 tokens for least squares over 64 columns");
    assert_false(pol_path_exists(in(f, "run")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plan_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failures_leave_no_folder, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

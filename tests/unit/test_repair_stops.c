/* test_repair_stops.c - repairs that stop, are gone on with, or cannot be: the file is that of an undisturbed one, or
 * the block stays as it was. */
#include "core/repair/repaired.h"
#include "tests/unit/repair_model.h"

static const char MODEL[] = "llama-gqa-tied";

typedef struct stopper {
    pol_context *ctx;
    int64_t behind; /* this layer; 0: nowhere */
} stopper;

static void stop_behind(void *user, int64_t layer, int64_t n_layers)
{
    const stopper *s = user;
    assert_int_equal(n_layers, 3);
    if (layer == s->behind)
        pol_context_stop(s->ctx);
}

static pol_repair_job stopping_job(const fixture *f, double refit, stopper *s)
{
    pol_repair_job j = job_of(f, POL_REPAIR_RIDGE);
    *s = (stopper){f->ctx, 0};
    j.o.refit_inputs = refit;
    j.watch = stop_behind;
    j.user = s;
    return j;
}

/* Both files are gone, a repair stops behind a layer; then another process goes on, in which the model has been through
 * other masks. */
static void stop(fixture *f, pol_repair_job *j, stopper *s, int64_t behind)
{
    uint8_t mask[1024];
    unlink(in(f, "half"));
    unlink(in(f, "local"));
    s->behind = behind;
    assert_fails(f->ctx, pol_repair_run(j, NULL), POL_EINTERRUPTED, "stopped");
    assert_false(pol_path_exists(in(f, "half")));
    assert_true(pol_path_exists(in(f, "half.part")));
    pol_context_resume(f->ctx);
    unload_fixture(f);
    load_fixture(f, MODEL);
    assert_true(f->m.units->n <= (int64_t)sizeof mask);
    random_mask(f->m.units, 3, mask);
    assert_ok(f->ctx, pol_model_set_mask(f->m.model, mask));
    *j = stopping_job(f, j->o.refit_inputs, s);
}

static void hash_files(const fixture *f, char hash[2][33])
{
    assert_ok(f->ctx, pol_file_hash(f->ctx, in(f, "half"), hash[0]));
    assert_ok(f->ctx, pol_file_hash(f->ctx, in(f, "local"), hash[1]));
}

/* The weights are as they were loaded. */
static void assert_original(fixture *f, const double dense[B])
{
    double loss[B];
    assert_ok(f->ctx, pol_model_set_mask(f->m.model, NULL));
    assert_ok(f->ctx, pol_forward_nll(f->m.forward, f->ids, B, S, NULL, loss));
    for (int i = 0; i < B; i++)
        assert_near(loss[i], dense[i], 1e-6);
}

static void check_resumed(fixture *f, double refit)
{
    char want[2][33], got[2][33];
    double dense[B];
    stopper s;
    load_fixture(f, MODEL);
    assert_ok(f->ctx, pol_forward_nll(f->m.forward, f->ids, B, S, NULL, dense));
    pol_repair_job j = stopping_job(f, refit, &s);
    assert_ok(f->ctx, pol_repair_run(&j, NULL));
    hash_files(f, want);
    assert_original(f, dense);
    for (int64_t behind = 1; behind <= 2; behind++) {
        stop(f, &j, &s, behind);
        assert_ok(f->ctx, pol_repair_run(&j, NULL));
        hash_files(f, got);
        for (int t = 0; t < 2; t++)
            assert_string_equal(got[t], want[t]);
        assert_false(pol_path_exists(in(f, "half.part")));
        assert_original(f, dense);
    }
    unlink(in(f, "half"));
    unlink(in(f, "local"));
    unload_fixture(f);
}

static void test_resume(void **state)
{
    check_resumed(*state, 0);
    check_resumed(*state, 0.5);
}

/* Overwrites the value that is so many before the end of a file. */
static void spoil(const char *path, int64_t before_end, float value)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -(long)(before_end * (int64_t)sizeof value), SEEK_END), 0);
    assert_int_equal(fwrite(&value, sizeof value, 1, file), 1);
    fclose(file);
}

/* What the layer that was written last says may not have reached the disk: it is done again. The layer before it is
 * taken as it is. */
static void test_last_layer_is_done_again(void **state)
{
    fixture *f = *state;
    char want[2][33], got[2][33];
    stopper s;
    load_fixture(f, MODEL);
    const pol_config *c = pol_model_config(f->m.model);
    const int64_t second = (int64_t)c->hidden * c->ffn; /* values of layer 1: its whole w_down */
    pol_repair_job j = stopping_job(f, 0, &s);
    assert_ok(f->ctx, pol_repair_run(&j, NULL));
    hash_files(f, want);
    stop(f, &j, &s, 2);
    spoil(in(f, "half.part"), 1, 77);
    assert_ok(f->ctx, pol_repair_run(&j, NULL));
    hash_files(f, got);
    assert_string_equal(got[0], want[0]);
    stop(f, &j, &s, 2);
    spoil(in(f, "half.part"), second + 1, 77);
    assert_ok(f->ctx, pol_repair_run(&j, NULL));
    hash_files(f, got);
    assert_string_not_equal(got[0], want[0]);
    assert_string_equal(got[1], want[1]);
    pol_repaired *r = open_repaired(f, "half");
    float row[64];
    pol_config left;
    pol_mask_config(f->m.units, f->mask, pol_model_config(f->m.model), &left);
    assert_ok(f->ctx, pol_repaired_read(r, POL_T_DOWN, 0, left.hidden - 1, 1, row));
    assert_near((double)row[left.layers[0].ffn - 1], 77, 0);
    pol_repaired_close(r);
    unload_fixture(f);
}

/* A file in the making of another identity, or cut off anywhere, is no obstacle; a whole one is left as it is. */
static void test_other_files(void **state)
{
    fixture *f = *state;
    char want[2][33], got[2][33];
    stopper s;
    int64_t sequences;
    load_fixture(f, MODEL);
    pol_repair_job j = stopping_job(f, 0, &s);
    assert_ok(f->ctx, pol_repair_run(&j, NULL));
    hash_files(f, want);
    const int64_t cuts[] = {0, 1, 7, 100, 5000};
    for (size_t i = 0; i < POL_COUNT(cuts); i++) {
        stop(f, &j, &s, 2);
        assert_int_equal(truncate(in(f, "half.part"), cuts[i]), 0);
        assert_ok(f->ctx, pol_repair_run(&j, NULL));
        hash_files(f, got);
        assert_string_equal(got[0], want[0]);
        assert_string_equal(got[1], want[1]);
    }
    assert_ok(f->ctx, pol_repair_run(&j, &sequences));
    assert_int_equal(sequences, 0);
    stop(f, &j, &s, 2);
    j.identity[0] = 'z';
    assert_ok(f->ctx, pol_repair_run(&j, &sequences));
    assert_int_equal(sequences, 7 * SEQUENCES);
    pol_repaired *r = open_repaired(f, "half");
    assert_int_equal(pol_repaired_identity(r)[0], 'z');
    pol_repaired_close(r);
    unload_fixture(f);
}

/* A host whose solutions are of no use, or which has none. */
static pol_ops odd_ops;
static pol_status odd_status;

static pol_status odd_solve(pol_backend *be, pol_solve_spd_args *a)
{
    if (odd_status < 0)
        return pol_fail(be->ctx, odd_status, "row 3 is not positive");
    for (int64_t i = 0; i < a->N * a->M; i++)
        a->b[i] = i % 2 ? 3 : -3;
    a->condition = 1e20;
    return POL_OK;
}

static void test_useless_solutions(void **state)
{
    static const pol_status statuses[] = {POL_OK, POL_ENUMERIC};
    fixture *f = *state;
    load_fixture(f, MODEL);
    odd_ops = *f->host->ops;
    odd_ops.solve_spd = odd_solve;
    f->host->ops = &odd_ops;
    for (size_t i = 0; i < POL_COUNT(statuses); i++) {
        odd_status = statuses[i];
        f->warnings = 0;
        pol_repair_job j = job_of(f, POL_REPAIR_RIDGE);
        j.identity[0] = (char)('a' + i);
        assert_ok(f->ctx, pol_repair_run(&j, NULL));
        /* Five blocks keep something; two of them are whole, which "local" leaves alone. */
        assert_int_equal(f->warnings, 5 + 3);
        assert_non_null(strstr(f->warning, i ? "no repair can be solved for" : "do worse than the old ones"));
        /* Every row is the model's own: the repaired model is the masked one. */
        double masked[B], repaired[B];
        pol_repaired *r = open_repaired(f, "half");
        assert_ok(f->ctx, pol_model_set_mask(f->m.model, f->mask));
        assert_ok(f->ctx, pol_forward_nll(f->m.forward, f->ids, B, S, NULL, masked));
        assert_ok(f->ctx, pol_repaired_apply(r, f->m.model));
        assert_ok(f->ctx, pol_forward_nll(f->m.forward, f->ids, B, S, NULL, repaired));
        assert_memory_equal(masked, repaired, sizeof masked);
        pol_repaired_close(r);
    }
    odd_status = POL_EDEVICE; /* any other failure is one */
    pol_repair_job j = job_of(f, POL_REPAIR_RIDGE);
    assert_fails(f->ctx, pol_repair_run(&j, NULL), POL_EDEVICE, "row 3");
    unload_fixture(f);
}

/* Where nothing goes there is nothing to repair, and nothing to warn of. */
static void test_nothing_removed(void **state)
{
    static const char *const models[] = {"llama-gqa-tied", "llama-linear-bias"};
    fixture *f = *state;
    for (size_t i = 0; i < 2 * POL_COUNT(models); i++) {
        double dense[B], repaired[B];
        load_fixture(f, models[i / 2]);
        memset(f->mask, 1, (size_t)f->m.units->n);
        pol_repair_job j = job_of(f, POL_REPAIR_RIDGE);
        j.identity[0] = (char)('a' + i);
        j.o.refit_inputs = i % 2 ? 0.5 : 0;
        assert_ok(f->ctx, pol_repair_run(&j, NULL));
        assert_int_equal(f->warnings, 0);
        pol_repaired *r = open_repaired(f, "half");
        assert_ok(f->ctx, pol_forward_nll(f->m.forward, f->ids, B, S, NULL, dense));
        assert_ok(f->ctx, pol_repaired_apply(r, f->m.model));
        assert_ok(f->ctx, pol_forward_nll(f->m.forward, f->ids, B, S, NULL, repaired));
        assert_memory_equal(dense, repaired, sizeof dense);
        pol_repaired_close(r);
        unload_fixture(f);
    }
}

/* What is said to be needed of the device, to the byte. */
static void test_device_bytes(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 3; i++) {
        load_fixture(f, MODEL);
        pol_repair_job j = job_of(f, i < 2 ? POL_REPAIR_RIDGE : POL_REPAIR_BIAS);
        j.identity[0] = (char)('a' + i);
        j.o.refit_inputs = i == 1 ? 0.5 : 0;
        const uint64_t before = f->m.be->bytes_in_use;
        const uint64_t want =
            pol_repair_device_bytes(pol_model_config(f->m.model), f->m.be, pol_forward_max_tokens(f->m.forward), &j.o);
        assert_int_equal(f->m.be->bytes_peak, before);
        assert_ok(f->ctx, pol_repair_run(&j, NULL));
        assert_int_equal(f->m.be->bytes_peak - before, i < 2 ? want : 0);
        if (i == 2) { /* an attention block is gone: five of six biases */
            pol_repaired *r = open_repaired(f, "half");
            assert_ok(f->ctx, pol_model_set_mask(f->m.model, f->mask));
            assert_ok(f->ctx, pol_repaired_apply(r, f->m.model));
            assert_int_equal(f->m.be->bytes_peak - before, want / 6 * 5);
            pol_repaired_close(r);
        }
        unload_fixture(f);
    }
}

static void test_too_few_tokens(void **state)
{
    fixture *f = *state;
    load_fixture(f, MODEL); /* 48 columns are the most that stay */
    pol_repair_job j = job_of(f, POL_REPAIR_RIDGE);
    f->cal.n = 48 * 4 / S - 1;
    assert_fails(f->ctx, pol_repair_run(&j, NULL), POL_ELIMIT, "48 columns");
    assert_false(pol_path_exists(in(f, "half.part")));
    f->cal.n = 48 * 4 / S;
    assert_ok(f->ctx, pol_repair_run(&j, NULL));
    assert_int_equal(f->warnings, 1);
    assert_non_null(strstr(f->warning, "over-fits"));
    f->warnings = 0;
    j.identity[0] = 'x';
    f->cal.n = 48 * 10 / S;
    assert_ok(f->ctx, pol_repair_run(&j, NULL));
    assert_int_equal(f->warnings, 0);
    memset(f->mask, 0, (size_t)f->m.units->n);
    assert_fails(f->ctx, pol_repair_run(&j, NULL), POL_EARG, "keeps nothing");
    unload_fixture(f);
}

/* Rows go to their units, wherever these lie. */
static void test_apply_in_any_order(void **state)
{
    fixture *f = *state;
    double want[B], got[B];
    uint8_t mask[1024];
    load_fixture(f, MODEL);
    pol_repair_job j = job_of(f, POL_REPAIR_RIDGE);
    j.o.refit_inputs = 0.5;
    assert_ok(f->ctx, pol_repair_run(&j, NULL));
    pol_repaired *r = open_repaired(f, "half");
    assert_fails(
        f->ctx,
        pol_repaired_apply(r, (random_mask(f->m.units, 1, mask), pol_model_set_mask(f->m.model, mask), f->m.model)),
        POL_EARG, "not masked by the mask");
    for (uint64_t i = 0; i < 4; i++) {
        unload_fixture(f);
        load_fixture(f, MODEL);
        for (uint64_t k = 1; k <= i; k++) {
            random_mask(f->m.units, k, mask);
            assert_ok(f->ctx, pol_model_set_mask(f->m.model, mask));
        }
        assert_ok(f->ctx, pol_model_set_mask(f->m.model, f->mask));
        assert_ok(f->ctx, pol_repaired_apply(r, f->m.model));
        random_mask(f->m.units, 9, mask); /* and move with them */
        assert_ok(f->ctx, pol_model_set_mask(f->m.model, mask));
        assert_ok(f->ctx, pol_model_set_mask(f->m.model, f->mask));
        assert_ok(f->ctx, pol_forward_nll(f->m.forward, f->ids, B, S, NULL, i ? got : want));
        for (int b = 0; i && b < B; b++)
            assert_near(got[b], want[b], 1e-5);
    }
    pol_repaired_close(r);
    unload_fixture(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_resume, setup, teardown),
        cmocka_unit_test_setup_teardown(test_last_layer_is_done_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_useless_solutions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_device_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_few_tokens, setup, teardown),
        cmocka_unit_test_setup_teardown(test_apply_in_any_order, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

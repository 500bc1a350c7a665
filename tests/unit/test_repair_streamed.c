/* test_repair_streamed.c - a model whose layers visit the device is repaired as one that is there: the same files. */
#include <unistd.h>

#include "core/base/file.h"
#include "core/repair/repair.h"
#include "tests/unit/streamed.h"

static void repair(fixture *f, int k, pol_backend *host, const pol_sequences *cal, pol_repair_kind kind, double refit,
                   const char *dir)
{
    char half[128], local[128];
    pol_repair_job j = {.f = f->forward[k], .host = host, .mask = f->mask, .cal = cal};
    snprintf(half, sizeof half, "%s/half-%d", dir, k);
    snprintf(local, sizeof local, "%s/local-%d", dir, k);
    pol_repair_defaults(&j.o);
    j.o.kind = kind;
    j.o.refit_inputs = refit;
    j.o.sequences = cal->n;
    j.path[POL_REPAIR_HALF] = half;
    j.path[POL_REPAIR_LOCAL] = local;
    assert_ok(f->ctx, pol_repair_run(&j, NULL));
}

/* The same bits in both files; then they are gone. */
static void compare(fixture *f, const char *dir, const char *name)
{
    char path[2][128], hash[2][33];
    for (int k = 0; k < 2; k++) {
        snprintf(path[k], sizeof path[k], "%s/%s-%d", dir, name, k);
        assert_ok(f->ctx, pol_file_hash(f->ctx, path[k], hash[k]));
        unlink(path[k]);
    }
    assert_string_equal(hash[0], hash[1]);
}

/* And applied to either they give the same losses. */
static void apply(fixture *f, const char *dir)
{
    double loss[2][B], masked[B];
    char path[128];
    snprintf(path, sizeof path, "%s/half-0", dir);
    for (int k = 0; k < 2; k++) {
        pol_repaired *r;
        assert_ok(f->ctx, pol_repaired_open(f->ctx, path, pol_model_config(f->model[k]), f->units, f->mask, &r));
        assert_ok(f->ctx, pol_model_set_mask(f->model[k], f->mask));
        assert_ok(f->ctx, pol_forward_nll(f->forward[k], f->ids, B, S, NULL, masked));
        assert_ok(f->ctx, pol_repaired_apply(r, f->model[k]));
        assert_ok(f->ctx, pol_forward_nll(f->forward[k], f->ids, B, S, NULL, loss[k]));
        assert_true(fabs(loss[k][0] - masked[0]) > 1e-4);
        pol_repaired_close(r);
    }
    assert_memory_equal(loss[0], loss[1], sizeof loss[0]);
}

static void check(const char *model, pol_repair_kind kind, double refit)
{
    char dir[] = "/tmp/pollard-repair-XXXXXX";
    fixture f;
    pol_backend *host;
    assert_non_null(mkdtemp(dir));
    open_fixture(&f, model);
    assert_ok(f.ctx, pol_backend_open_host(f.ctx, 1, &host));
    const pol_sequences cal = {.ctx = f.ctx, .n = SEQUENCES, .seq_len = S, .ids = f.ids};
    draw(f.units, 5, 0.6f, f.mask);
    for (int k = 0; k < 2; k++)
        repair(&f, k, host, &cal, kind, refit, dir);
    apply(&f, dir);
    compare(&f, dir, "half");
    if (kind == POL_REPAIR_RIDGE)
        compare(&f, dir, "local");
    pol_backend_close(host);
    assert_ok(f.ctx, pol_remove_tree(f.ctx, dir));
    close_fixture(&f);
}

static void test_ridge(void **state)
{
    (void)state;
    check("models/llama-gqa-tied", POL_REPAIR_RIDGE, 0);
    check("models/llama-linear-bias", POL_REPAIR_RIDGE, 0.5);
}

static void test_bias(void **state)
{
    (void)state;
    check("models/llama-gqa-tied", POL_REPAIR_BIAS, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ridge), cmocka_unit_test(test_bias)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

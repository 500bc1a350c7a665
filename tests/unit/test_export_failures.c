/* test_export_failures.c - exports that fail say why and leave nothing behind. */
#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#include "tests/ration.h"
#include "tests/unit/export_model.h"

static void test_failures_leave_nothing(void **state)
{
    const fixture *f = *state;
    flavour m = plain;
    m.bias = true;
    make_model(f, "dense", &m);
    make_model(f, "nan", &m);
    FILE *file =
        fopen(in(f, "nan/model.safetensors"), "r+b"); /* the last value of the last tensor, layer 2's down bias */
    assert_non_null(file);
    const float nan = NAN;
    assert_int_equal(fseek(file, -4, SEEK_END), 0);
    assert_int_equal(fwrite(&nan, 4, 1, file), 1);
    fclose(file);

    pol_source *src = open_source(f, "dense"), *bad = open_source(f, "nan");
    pol_units *u, *other;
    assert_ok(f->ctx, pol_units_new(f->ctx, pol_source_config(src), &u));
    uint8_t *mask = make_mask(u, &all, &all, false);
    const int before = entries(f->dir);

    assert_fails(f->ctx, pol_export(src, u, mask, &zeros_format, in(f, "dense")), POL_EIO, "exists already");
    assert_fails(f->ctx, pol_export(src, u, mask, &zeros_format, in(f, "no/such/place")), POL_EIO, "no/such/place");
    assert_fails(f->ctx, pol_export(bad, u, mask, &hf_format, in(f, "out")), POL_EFORMAT,
                 "layers.2.mlp.down_proj.bias");
    const pol_export_options narrow = {.format = POL_EXPORT_HF, .dtype = "f16"},
                             odd = {.format = POL_EXPORT_HF, .dtype = "f8"};
    assert_fails(f->ctx, pol_export(src, u, mask, &narrow, in(f, "out")), POL_ENUMERIC, "cannot be written as F16");
    assert_fails(f->ctx, pol_export(src, u, mask, &odd, in(f, "out")), POL_EARG, "'f8'");
    pol_config c = *pol_source_config(src);
    c.layers[1].ffn--;
    assert_ok(f->ctx, pol_units_new(f->ctx, &c, &other));
    assert_fails(f->ctx, pol_export(src, other, mask, &hf_format, in(f, "out")), POL_EARG,
                 "layer 1: the mask has 9 channels");
    pol_units_free(other);

    pol_context_stop(f->ctx);
    assert_fails(f->ctx, pol_export(src, u, mask, &hf_format, in(f, "out")), POL_EINTERRUPTED, "stopped");
    pol_context_resume(f->ctx);

    /* A disk that fills up in the middle of the weights. */
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    low.rlim_cur = 9000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    const pol_status s = pol_export(src, u, mask, &hf_format, in(f, "out"));
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(s, POL_EIO);
    assert_non_null(strstr(pol_error_text(f->ctx), "model.safetensors: cannot be written"));

    assert_int_equal(entries(f->dir), before);
    free(mask);
    pol_units_free(u);
    pol_source_close(src);
    pol_source_close(bad);
}

/* Whichever block cannot be had: a code, nothing left behind, and (under the address sanitizer) nothing leaked. */
static void test_memory_runs_out(void **state)
{
    const fixture *f = *state;
    make_model(f, "dense", &plain);
    export_model(f, "dense", &all, "once", &some, &hf_format, false);
    int64_t left = INT64_MAX;
    const pol_allocator limited = ration(&left);
    pol_context *ctx;
    pol_source *src;
    pol_units *u;
    assert_int_equal(pol_context_new(&limited, &ctx), POL_OK);
    assert_ok(ctx, pol_source_open(ctx, in(f, "once"), &src));
    assert_ok(ctx, pol_units_new(ctx, pol_source_config(src), &u));
    uint8_t *mask = make_mask(u, &some, &fewer, false);
    const pol_export_options o = {.format = POL_EXPORT_HF, .shard_bytes = 2000};
    const int before = entries(f->dir);
    pol_status s = POL_ENOMEM;
    int n = 0;
    for (; s != POL_OK; n++) {
        left = n;
        s = pol_export(src, u, mask, &o, in(f, "out"));
        left = INT64_MAX;
        if (s != POL_OK) {
            assert_int_equal(s, POL_ENOMEM);
            assert_int_equal(entries(f->dir), before);
        }
    }
    assert_in_range(n, 20, 1000);
    check_model(f, "out", &plain, &fewer, false, false);
    free(mask);
    pol_units_free(u);
    pol_source_close(src);
    pol_context_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_failures_leave_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_runs_out, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

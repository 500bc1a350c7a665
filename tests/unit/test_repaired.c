/* test_repaired.c - files of repaired weights: what is refused, and in which words. */
#include <sys/stat.h>

#include "core/export/safetensors_write.h"
#include "core/repair/repaired.h"
#include "pollard/export.h"
#include "tests/unit/repair_model.h"

enum { MAX_TENSORS = 32 };

/* A file as it should be, and what a test makes of it. */
typedef struct draft {
    pol_st_metadata metadata[6];
    int64_t n_metadata;
    pol_st_tensor t[MAX_TENSORS];
    int64_t n;
    float value; /* of every element */
    char mask[33];
} draft;

static void add(draft *d, const pol_config *left, pol_tensor_kind kind, int32_t layer)
{
    pol_st_tensor *t = &d->t[d->n++];
    *t = (pol_st_tensor){.dtype = POL_F32, .n_dims = 2};
    pol_tensor_shape(left, kind, layer, &t->shape[0], &t->shape[1]);
    pol_tensor_name(kind, layer, t->name, sizeof t->name);
}

/* Layer 0 with re-fitted inputs. */
static void make_draft(const fixture *f, draft *d)
{
    static const pol_tensor_kind kinds[] = {POL_T_Q, POL_T_K, POL_T_V, POL_T_O, POL_T_GATE, POL_T_UP, POL_T_DOWN};
    pol_config left;
    *d = (draft){.value = 0.5f, .n_metadata = 6};
    pol_mask_config(f->m.units, f->mask, pol_model_config(f->m.model), &left);
    assert_ok(f->ctx, pol_repair_mask_hash(f->ctx, f->m.units, f->mask, d->mask));
    const pol_st_metadata metadata[] = {{"format", POL_REPAIRED_FORMAT},
                                        {"version", POL_REPAIRED_VERSION},
                                        {"identity", "abc"},
                                        {"mask", d->mask},
                                        {"kind", "ridge"},
                                        {"target", "local"}};
    memcpy(d->metadata, metadata, sizeof metadata);
    for (size_t i = 0; i < POL_COUNT(kinds); i++)
        add(d, &left, kinds[i], 0);
}

static void write_draft(const fixture *f, const draft *d)
{
    static float values[64 * 64];
    pol_st_writer *w;
    int64_t whole;
    unlink(in(f, "file.part"));
    for (size_t i = 0; i < POL_COUNT(values); i++)
        values[i] = d->value;
    assert_ok(f->ctx, pol_st_resume(f->ctx, in(f, "file"), d->t, d->n, d->metadata, d->n_metadata, &whole, &w));
    for (int64_t i = 0; i < d->n; i++)
        assert_ok(f->ctx, pol_st_append(w, values, d->t[i].shape[0] * (d->t[i].n_dims == 2 ? d->t[i].shape[1] : 1)));
    assert_ok(f->ctx, pol_st_finish(w));
}

static pol_status open_draft(const fixture *f, const draft *d, pol_repaired **r)
{
    write_draft(f, d);
    return pol_repaired_open(f->ctx, in(f, "file"), pol_model_config(f->m.model), f->m.units, f->mask, r);
}

static void test_what_is_read(void **state)
{
    fixture *f = *state;
    draft d;
    pol_repaired *r;
    char text[POL_REPAIRED_TEXT_BYTES];
    float x[2 * 64];
    load_fixture(f, "llama-gqa-tied");
    make_draft(f, &d);
    assert_ok(f->ctx, open_draft(f, &d, &r));
    assert_string_equal(pol_repaired_identity(r), "abc");
    assert_string_equal(pol_repaired_text(r, text), "ridge, target local, inputs re-fitted");
    assert_true(pol_repaired_has(r, POL_T_GATE, 0) && !pol_repaired_has(r, POL_T_GATE, 1));
    assert_ok(f->ctx, pol_repaired_read(r, POL_T_O, 0, 3, 2, x));
    assert_near((double)x[0], 0.5, 0);
    const int64_t bad[][2] = {{-1, 1}, {24, 1}, {0, 25}, {INT64_MAX, 2}, {2, INT64_MAX}, {0, -1}};
    for (size_t i = 0; i < POL_COUNT(bad); i++)
        assert_fails(f->ctx, pol_repaired_read(r, POL_T_O, 0, bad[i][0], bad[i][1], x), POL_EARG, "has no rows");
    assert_fails(f->ctx, pol_repaired_read(r, POL_T_O, 1, 0, 1, x), POL_EARG, "has no rows");
    pol_repaired_close(r);
    d.n = 0;
    for (int i = 0; i < 2; i++) {
        d.metadata[4].value = "bias";
        d.n_metadata = 5;
        d.t[d.n] = (pol_st_tensor){.dtype = POL_F32, .n_dims = 1, .shape = {24}};
        pol_tensor_name(i ? POL_T_DOWN_BIAS : POL_T_O_BIAS, 0, d.t[d.n++].name, POL_ST_NAME_BYTES);
    }
    assert_ok(f->ctx, open_draft(f, &d, &r));
    assert_string_equal(pol_repaired_text(r, text), "bias");
    pol_repaired_close(r);
    unload_fixture(f);
}

static void test_metadata_is_checked(void **state)
{
    static const struct {
        int key;
        const char *value; /* NULL: the key is not there */
        pol_status code;
        const char *part;
    } cases[] = {
        {0, "pt", POL_EFORMAT, "'format' is 'pt', not 'pollard-repaired'"},
        {0, NULL, POL_EFORMAT, "no 'format'"},
        {1, "2", POL_EUNSUPPORTED, "'version' is '2', only 1"},
        {1, NULL, POL_EFORMAT, "no 'version'"},
        {2, NULL, POL_EFORMAT, "no 'identity'"},
        {3, "00", POL_EFORMAT, "another mask: its hash is 00"},
        {3, NULL, POL_EFORMAT, "no 'mask'"},
        {4, "none", POL_EFORMAT, "'kind' is 'none'"},
        {4, "bias", POL_EFORMAT, "has no place among repaired weights"},
        {5, "halves", POL_EFORMAT, "'target' is 'halves'"},
        {5, NULL, POL_EFORMAT, "no 'target'"},
    };
    fixture *f = *state;
    load_fixture(f, "llama-gqa-tied");
    for (size_t i = 0; i < POL_COUNT(cases); i++) {
        draft d;
        pol_repaired *r;
        make_draft(f, &d);
        d.metadata[cases[i].key].value = cases[i].value;
        if (!cases[i].value)
            d.metadata[cases[i].key] = (pol_st_metadata){"other", "thing"};
        assert_fails(f->ctx, open_draft(f, &d, &r), cases[i].code, cases[i].part);
        assert_null(r);
        assert_non_null(strstr(pol_error_text(f->ctx), "/file"));
    }
    unload_fixture(f);
}

static void test_tensors_are_checked(void **state)
{
    fixture *f = *state;
    draft d;
    pol_repaired *r;
    float x[64];
    load_fixture(f, "llama-gqa-tied");
    make_draft(f, &d);
    d.t[1] = d.t[--d.n]; /* k_proj is missing */
    assert_fails(f->ctx, open_draft(f, &d, &r), POL_EFORMAT, "k_proj.weight' is missing beside its fellows");
    make_draft(f, &d);
    d.t[4] = d.t[--d.n]; /* gate_proj */
    assert_fails(f->ctx, open_draft(f, &d, &r), POL_EFORMAT, "gate_proj.weight' is missing beside its fellows");
    make_draft(f, &d);
    d.t[3].shape[1]--;
    assert_fails(f->ctx, open_draft(f, &d, &r), POL_EFORMAT, "o_proj.weight' has not the shape that the mask leaves");
    make_draft(f, &d);
    d.t[6].n_dims = 1;
    assert_fails(f->ctx, open_draft(f, &d, &r), POL_EFORMAT, "down_proj.weight' has not the shape");
    make_draft(f, &d); /* of a block that is gone */
    d.t[3] = (pol_st_tensor){"model.layers.1.self_attn.o_proj.weight", POL_F32, 2, {24, 24}};
    assert_fails(f->ctx, open_draft(f, &d, &r), POL_EFORMAT, "layers.1.self_attn.o_proj.weight' has not the shape");
    static const char *const strangers[] = {"model.layers.3.mlp.down_proj.weight", "model.norm.weight", "other",
                                            "model.layers.0.self_attn.o_proj.bias"};
    for (size_t i = 0; i < POL_COUNT(strangers); i++) {
        make_draft(f, &d);
        d.t[d.n] = (pol_st_tensor){.dtype = POL_F32, .n_dims = 1, .shape = {24}};
        strcpy(d.t[d.n++].name, strangers[i]);
        assert_fails(f->ctx, open_draft(f, &d, &r), POL_EFORMAT, strangers[i]);
        assert_non_null(strstr(pol_error_text(f->ctx), "no place among repaired weights"));
    }
    /* A value that is not a number is met when it is read. */
    make_draft(f, &d);
    write_draft(f, &d);
    FILE *file = fopen(in(f, "file"), "r+b");
    const uint32_t nan = 0x7fc00000;
    assert_int_equal(fseek(file, -4, SEEK_END), 0);
    assert_int_equal(fwrite(&nan, 4, 1, file), 1);
    fclose(file);
    assert_ok(f->ctx, pol_repaired_open(f->ctx, in(f, "file"), pol_model_config(f->m.model), f->m.units, f->mask, &r));
    assert_fails(f->ctx, pol_repaired_read(r, POL_T_DOWN, 0, 23, 1, x), POL_EFORMAT, "down_proj.weight': a value is");
    assert_ok(f->ctx, pol_model_set_mask(f->m.model, f->mask));
    assert_fails(f->ctx, pol_repaired_apply(r, f->m.model), POL_EFORMAT, "down_proj.weight'");
    pol_repaired_close(r);
    /* Cut off anywhere, it is no file. */
    pol_map m;
    assert_ok(f->ctx, pol_map_open(f->ctx, in(f, "file"), &m));
    for (size_t n = 0; n < m.size; n += n < 64 ? 1 : 997) {
        const pol_status s =
            pol_repaired_parse(f->ctx, "cut", m.data, n, pol_model_config(f->m.model), f->m.units, f->mask, &r);
        assert_int_equal(s, POL_EFORMAT);
        assert_null(r);
    }
    pol_map_close(&m);
    unload_fixture(f);
}

/* Output biases go where a stock class has them: beside biases that the model has, but not into a family without. */
static void test_export_of_biases(void **state)
{
    static const struct {
        const char *model;
        pol_status code;
    } cases[] = {{"llama-linear-bias", POL_OK}, {"llama-gqa-tied", POL_OK}, {"mistral-window", POL_EUNSUPPORTED}};
    fixture *f = *state;
    for (size_t i = 0; i < POL_COUNT(cases); i++) {
        char out[64];
        pol_source *back;
        load_fixture(f, cases[i].model);
        pol_repair_job j = job_of(f, POL_REPAIR_BIAS);
        j.identity[0] = (char)('a' + i);
        assert_ok(f->ctx, pol_repair_run(&j, NULL));
        pol_repaired *r = open_repaired(f, "half");
        snprintf(out, sizeof out, "out-%zu", i);
        for (int format = POL_EXPORT_ZEROS; format <= POL_EXPORT_HF; format++) {
            const pol_export_options o = {.format = (pol_export_format)format, .repaired = r};
            const pol_status s = pol_export(f->m.src, f->m.units, f->mask, &o, in(f, out));
            assert_int_equal(s, cases[i].code);
            assert_int_equal(pol_path_exists(in(f, out)), s == POL_OK);
            if (s < 0) {
                assert_non_null(strstr(pol_error_text(f->ctx), "no stock Hugging Face class of the family 'mistral'"));
                continue;
            }
            assert_ok(f->ctx, pol_source_open(f->ctx, in(f, out), &back));
            assert_true(pol_source_config(back)->o_bias && pol_source_config(back)->mlp_bias);
            pol_source_close(back);
            assert_ok(f->ctx, pol_remove_tree(f->ctx, in(f, out)));
        }
        pol_repaired_close(r);
        unload_fixture(f);
    }
}

/* A writer that goes on: what it says is there, gives back and takes up. */
static void test_file_that_grows(void **state)
{
    fixture *f = *state;
    const pol_st_tensor t[] = {{"a", POL_F32, 1, {3, 0}}, {"b", POL_F32, 2, {2, 2}}, {"c", POL_F32, 1, {2, 0}}};
    const pol_st_metadata one[] = {{"format", "one"}}, two[] = {{"format", "two"}};
    const float x[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    float back[4];
    pol_st_writer *w;
    int64_t whole;
    const pol_st_tensor half = {"a", POL_F16, 1, {3, 0}};
    assert_fails(f->ctx, pol_st_resume(f->ctx, in(f, "g"), &half, 1, one, 1, &whole, &w), POL_EARG, "is not f32");
    assert_ok(f->ctx, pol_st_resume(f->ctx, in(f, "g"), t, 3, one, 1, &whole, &w));
    assert_int_equal(whole, 0);
    assert_ok(f->ctx, pol_st_append(w, x, 3));
    assert_ok(f->ctx, pol_st_append(w, x + 3, 3)); /* a part of b */
    assert_ok(f->ctx, pol_st_read_back(w, 0, back));
    assert_memory_equal(back, x, 3 * sizeof *x);
    assert_fails(f->ctx, pol_st_read_back(w, 1, back), POL_EARG, "tensor 1 of 1");
    pol_st_abort(w);
    assert_ok(f->ctx, pol_st_resume(f->ctx, in(f, "g"), t, 3, one, 1, &whole, &w));
    assert_int_equal(whole, 1); /* the part is given up */
    assert_ok(f->ctx, pol_st_append(w, x + 3, 4));
    assert_ok(f->ctx, pol_st_append(w, x + 7, 2));
    assert_ok(f->ctx, pol_st_cut(w, 2));
    assert_fails(f->ctx, pol_st_append(w, x, 3), POL_EARG, "3 values are more than the 2");
    assert_ok(f->ctx, pol_st_append(w, x, 2));
    assert_ok(f->ctx, pol_st_sync(w));
    pol_st_abort(w);
    assert_ok(f->ctx, pol_st_resume(f->ctx, in(f, "g"), t, 3, one, 1, &whole, &w));
    assert_int_equal(whole, 3);
    assert_ok(f->ctx, pol_st_read_back(w, 1, back));
    assert_memory_equal(back, x + 3, 4 * sizeof *x);
    assert_ok(f->ctx, pol_st_read_back(w, 2, back));
    assert_memory_equal(back, x, 2 * sizeof *x);
    pol_st_abort(w);
    assert_ok(f->ctx, pol_st_resume(f->ctx, in(f, "g"), t, 3, two, 1, &whole, &w));
    assert_int_equal(whole, 0);
    assert_fails(f->ctx, pol_st_finish(w), POL_EARG, "'a' lacks 3 values");
    assert_false(pol_path_exists(in(f, "g")));
    /* Something in its way. */
    assert_int_equal(mkdir(in(f, "d.part"), 0700), 0);
    assert_fails(f->ctx, pol_st_resume(f->ctx, in(f, "d"), t, 3, one, 1, &whole, &w), POL_EIO, "d.part");
    assert_null(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_metadata_is_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tensors_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_export_of_biases, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_that_grows, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

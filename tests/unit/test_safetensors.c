/* test_safetensors.c - safetensors headers and shard indexes, good and bad. */
#include <unistd.h>

#include "core/base/file.h"
#include "core/model/safetensors.h"
#include "tests/unit/model_files.h"

typedef struct fixture {
    pol_context *ctx;
    char dir[64];
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/pollard-safetensors-XXXXXX");
    *state = f;
    return pol_context_new(NULL, &f->ctx) == POL_OK && mkdtemp(f->dir) ? 0 : -1;
}

static int teardown(void **state)
{
    fixture *f = *state;
    pol_remove_tree(f->ctx, f->dir);
    pol_context_free(f->ctx);
    free(f);
    return 0;
}

#define RECORD(name, dtype, shape, range) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" range "}"

static void accepted(pol_context *ctx, const char *header, size_t n)
{
    pol_bytes b = safetensors_file(ctx, header, NULL, n);
    pol_safetensors *st;
    assert_ok(ctx, pol_safetensors_parse(ctx, "x", b.data, b.len, &st));
    pol_safetensors_close(st);
    pol_bytes_free(&b);
}

static void refused(pol_context *ctx, const char *header, size_t n, pol_status code, const char *part)
{
    pol_bytes b = safetensors_file(ctx, header, NULL, n);
    pol_safetensors *st;
    assert_fails(ctx, pol_safetensors_parse(ctx, "bad.safetensors", b.data, b.len, &st), code, part);
    assert_null(st);
    assert_non_null(strstr(pol_error_text(ctx), "bad.safetensors: "));
    pol_bytes_free(&b);
}

static void test_reads_back(void **state)
{
    pol_context *ctx = ((fixture *)*state)->ctx;
    static const float x[6] = {1, 2, 3, 4, 5, 6};
    safetensors_writer w = safetensors_begin(ctx);
    safetensors_f32(&w, "z", 2, 3, x);
    safetensors_f32(&w, "a", 0, 2, x + 2);
    pol_bytes b = safetensors_end(&w);
    pol_safetensors *st;
    assert_ok(ctx, pol_safetensors_parse(ctx, "x", b.data, b.len, &st));
    assert_string_equal(pol_safetensors_at(st, 0)->name, "a");
    assert_null(pol_safetensors_at(st, 2));
    assert_null(pol_safetensors_find(st, "b"));
    const pol_safetensors_tensor *t = pol_safetensors_find(st, "z");
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 3);
    assert_string_equal(t->coding->name, "f32");
    assert_memory_equal(pol_safetensors_file_data(st, t->file) + t->at, x, sizeof x);
    pol_safetensors_close(st);

    for (size_t n = 0; n < b.len; n++) {
        uint8_t *cut = malloc(n ? n : 1);
        memcpy(cut, b.data, n);
        if (pol_safetensors_parse(ctx, "cut", cut, n, &st) == POL_OK)
            fail_msg("the first %zu of %zu bytes were accepted", n, b.len);
        assert_null(st);
        free(cut);
    }
    pol_bytes_free(&b);

    accepted(ctx, "{}", 0);
    accepted(ctx, "{\"__metadata__\":{\"format\":\"pt\"}," RECORD("a", "BF16", "[2,2]", "[0,8]") "}   ", 8);
    accepted(ctx, "{" RECORD("scalar", "I64", "[]", "[0,8]") "," RECORD("none", "F32", "[0,5]", "[8,8]") "}", 8);
}

static void test_bad_headers(void **state)
{
    pol_context *ctx = ((fixture *)*state)->ctx;
    pol_safetensors *st;
    assert_fails(ctx, pol_safetensors_parse(ctx, "bad.safetensors", "\1\0\0", 3, &st), POL_EFORMAT,
                 "3 bytes are no safetensors file");
    assert_fails(ctx, pol_safetensors_parse(ctx, "bad.safetensors", "\1\1\0\0\0\0\0\0{}", 10, &st), POL_EFORMAT,
                 "header length is 257, but the file has 10 bytes");
    assert_fails(ctx, pol_safetensors_parse(ctx, "bad.safetensors", "\0\0\0\0\0\0\0\x80{}", 10, &st), POL_EFORMAT,
                 "header length is 9223372036854775808, more than the format's limit");
    refused(ctx, "{\"a\":", 0, POL_EFORMAT, "bad.safetensors: header: line 1, column");
    refused(ctx, "[]", 0, POL_EFORMAT, "header is not a JSON object");
    refused(ctx, "{" RECORD("a", "F32", "[1]", "[0,4]") "," RECORD("a", "F32", "[1]", "[4,8]") "}", 8, POL_EFORMAT,
            "duplicate object key");
    refused(ctx, "{\"a\":3}", 0, POL_EFORMAT, "tensor 'a': not an object");
    refused(ctx, "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, POL_EFORMAT, "tensor 'a': 'dtype' is missing");
    refused(ctx, "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, POL_EFORMAT,
            "tensor 'a': 'shape' is missing");
    refused(ctx, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, POL_EFORMAT, "tensor 'a': 'data_offsets' is missing");
    refused(ctx, "{" RECORD("a", "F4", "[1]", "[0,4]") "}", 4, POL_EUNSUPPORTED, "tensor 'a': 'dtype' is 'F4'");
    refused(ctx, "{" RECORD("a", "F32", "[-1]", "[0,4]") "}", 4, POL_EFORMAT,
            "'shape': dimension 0 is not a possible size");
    refused(ctx, "{" RECORD("a", "F32", "[1.0]", "[0,4]") "}", 4, POL_EFORMAT,
            "'shape': dimension 0 is not a possible size");
    refused(ctx, "{" RECORD("a", "F32", "[4294967296,4294967296]", "[0,4]") "}", 4, POL_EFORMAT,
            "'shape': dimension 1 is not");
    refused(ctx, "{" RECORD("a", "F32", "[2]", "[0,4]") "}", 4, POL_EFORMAT,
            "'data_offsets' spans 4 bytes, but shape and dtype need 8");
    refused(ctx, "{" RECORD("a", "F32", "[1]", "[4,0]") "}", 4, POL_EFORMAT,
            "'data_offsets' is not a begin and an end");
    refused(ctx, "{" RECORD("a", "F32", "[1]", "[0]") "}", 4, POL_EFORMAT, "'data_offsets' is not a begin and an end");
    refused(ctx, "{" RECORD("a", "F32", "[1]", "[-4,0]") "}", 4, POL_EFORMAT,
            "'data_offsets' is not a begin and an end");
    refused(ctx, "{" RECORD("a", "F32", "[2]", "[0,8]") "}", 4, POL_EFORMAT,
            "ends at 8, but the file holds 4 bytes of data");
}

static void test_bad_coverage(void **state)
{
    pol_context *ctx = ((fixture *)*state)->ctx;
    refused(ctx, "{" RECORD("a", "F32", "[2]", "[0,8]") "," RECORD("b", "F32", "[2]", "[4,12]") "}", 12, POL_EFORMAT,
            "tensors 'a' and 'b' overlap at data byte 4");
    refused(ctx, "{" RECORD("a", "F32", "[1]", "[0,4]") "," RECORD("b", "F32", "[1]", "[8,12]") "}", 12, POL_EFORMAT,
            "data bytes 4..8 before tensor 'b' belong to no tensor");
    refused(ctx, "{" RECORD("a", "F32", "[1]", "[0,4]") "}", 8, POL_EFORMAT,
            "tensors end at data byte 4, but the file holds 8");
}

static void write_in(fixture *f, const char *name, pol_bytes b)
{
    char *path = pol_path_join(f->ctx, f->dir, name);
    assert_ok(f->ctx, pol_file_write(f->ctx, path, b.data, b.len));
    pol_free(f->ctx, path);
    pol_bytes_free(&b);
}

static void write_index(fixture *f, const char *map)
{
    pol_bytes b = {.ctx = f->ctx};
    pol_bytes_printf(&b, "{\"metadata\":{},\"weight_map\":{%s}}", map);
    write_in(f, "model.safetensors.index.json", b);
}

static void test_shards(void **state)
{
    fixture *f = *state;
    pol_safetensors *st;
    static const float x[3] = {1, 2, 3};
    assert_fails(f->ctx, pol_safetensors_open(f->ctx, f->dir, &st), POL_EIO,
                 "neither model.safetensors nor model.safetensors.index.json");
    safetensors_writer w = safetensors_begin(f->ctx);
    safetensors_f32(&w, "a", 0, 1, x);
    write_in(f, "m-1.safetensors", safetensors_end(&w));
    w = safetensors_begin(f->ctx);
    safetensors_f32(&w, "b", 0, 2, x + 1);
    write_in(f, "m-2.safetensors", safetensors_end(&w));

    write_index(f, "\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"");
    assert_ok(f->ctx, pol_safetensors_open(f->ctx, f->dir, &st));
    const pol_safetensors_tensor *t = pol_safetensors_find(st, "b");
    assert_non_null(strstr(pol_safetensors_file_name(st, t->file), "m-2.safetensors"));
    assert_memory_equal(pol_safetensors_file_data(st, t->file) + t->at, x + 1, 8);
    pol_safetensors_close(st);

    write_index(f, "\"a\":\"m-1.safetensors\",\"b\":\"m-1.safetensors\"");
    assert_fails(f->ctx, pol_safetensors_open(f->ctx, f->dir, &st), POL_EFORMAT,
                 "weight_map: tensor 'b' is not in 'm-1.safetensors'");
    write_index(f, "\"a\":\"m-2.safetensors\",\"b\":\"m-1.safetensors\"");
    assert_fails(f->ctx, pol_safetensors_open(f->ctx, f->dir, &st), POL_EFORMAT, "belongs to 'm-");
    write_index(f, "\"x\":\"m-1.safetensors\"");
    assert_fails(f->ctx, pol_safetensors_open(f->ctx, f->dir, &st), POL_EFORMAT,
                 "m-1.safetensors: tensor 'a' is not in the index");
    write_index(f, "\"a\":\"../m-1.safetensors\"");
    assert_fails(f->ctx, pol_safetensors_open(f->ctx, f->dir, &st), POL_EFORMAT,
                 "weight_map: 'a' is not mapped to a file name");
    write_index(f, "\"a\":1");
    assert_fails(f->ctx, pol_safetensors_open(f->ctx, f->dir, &st), POL_EFORMAT,
                 "weight_map: 'a' is not mapped to a file name");
    write_index(f, "\"a\":\"m-3.safetensors\"");
    assert_fails(f->ctx, pol_safetensors_open(f->ctx, f->dir, &st), POL_EIO, "m-3.safetensors: cannot be opened");

    /* The same tensor in two shards. */
    w = safetensors_begin(f->ctx);
    safetensors_f32(&w, "a", 0, 1, x);
    safetensors_f32(&w, "b", 0, 2, x + 1);
    write_in(f, "m-2.safetensors", safetensors_end(&w));
    write_index(f, "\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"");
    assert_fails(f->ctx, pol_safetensors_open(f->ctx, f->dir, &st), POL_EFORMAT, "tensor 'a' ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_headers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_coverage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shards, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

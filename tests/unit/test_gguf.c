/* test_gguf.c - GGUF headers, good and bad. Every bad one is refused with a sentence. */
#include "core/model/gguf.h"
#include "tests/unit/model_files.h"

static void put_array(gguf_file *f, const char *key, uint32_t type, uint64_t n, const void *values, size_t bytes)
{
    pol_bytes v = {.ctx = f->keys.ctx};
    put_u32(&v, type);
    put_u64(&v, n);
    put(&v, values, bytes);
    gguf_key(f, key, 9, v.data, v.len);
    pol_bytes_free(&v);
}

static gguf_file sample(pol_context *ctx)
{
    static const float x[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    gguf_file f = gguf_begin(ctx);
    gguf_key_str(&f, "general.architecture", "llama");
    gguf_key_u32(&f, "count", 4000000000u);
    gguf_key_f32(&f, "eps", 0.5f);
    gguf_key(&f, "yes", 7, "\1", 1);
    gguf_key(&f, "minus", 1, "\xff", 1);
    gguf_key(&f, "huge", 10, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    static const int16_t shorts[3] = {-1, 0, 300};
    put_array(&f, "shorts", 3, 3, shorts, sizeof shorts);
    pol_bytes words = {.ctx = ctx};
    put_string(&words, "");
    put_string(&words, "two");
    put_array(&f, "words", 8, 2, words.data, words.len);
    pol_bytes_free(&words);
    gguf_tensor_f32(&f, "b", 3, 4, x);
    gguf_tensor_f32(&f, "a", 0, 5, x);
    return f;
}

static void test_reads_back(void **state)
{
    pol_context *ctx = *state;
    for (uint32_t version = 2; version <= 3; version++) {
        gguf_file f = sample(ctx);
        f.version = version;
        pol_bytes b = gguf_end(&f);
        pol_gguf *g;
        const char *s;
        size_t n;
        int64_t i;
        double d;
        assert_ok(ctx, pol_gguf_parse(ctx, "x.gguf", b.data, b.len, &g));
        assert_true(pol_gguf_str(g, "general.architecture", &s, &n) && n == 5 && !memcmp(s, "llama", 5));
        assert_true(pol_gguf_int(g, "count", &i) && i == 4000000000);
        assert_true(pol_gguf_float(g, "count", &d) && d == 4e9);
        assert_true(pol_gguf_float(g, "eps", &d) && d == 0.5);
        assert_true(pol_gguf_int(g, "yes", &i) && i == 1);
        assert_true(pol_gguf_int(g, "minus", &i) && i == -1);
        assert_false(pol_gguf_int(g, "huge", &i));
        assert_false(pol_gguf_int(g, "eps", &i));
        assert_false(pol_gguf_int(g, "absent", &i));
        assert_false(pol_gguf_int(g, "shorts", &i));
        assert_false(pol_gguf_str(g, "eps", &s, &n));
        assert_int_equal(pol_gguf_array(g, "shorts"), 3);
        assert_int_equal(pol_gguf_array(g, "eps"), -1);
        assert_true(pol_gguf_array_int(g, "shorts", 0, &i) && i == -1);
        assert_true(pol_gguf_array_float(g, "shorts", 2, &d) && d == 300);
        assert_false(pol_gguf_array_int(g, "shorts", 3, &i));
        assert_false(pol_gguf_array_int(g, "shorts", -1, &i));
        assert_false(pol_gguf_array_str(g, "shorts", 0, &s, &n));
        assert_true(pol_gguf_array_str(g, "words", 0, &s, &n) && n == 0);
        assert_true(pol_gguf_array_str(g, "words", 1, &s, &n) && n == 3 && !memcmp(s, "two", 3));
        assert_string_equal(pol_gguf_tensor_at(g, 0)->name, "a");
        assert_null(pol_gguf_tensor_at(g, 2));
        assert_null(pol_gguf_tensor_find(g, "c"));
        const pol_gguf_tensor *t = pol_gguf_tensor_find(g, "b");
        assert_int_equal(t->ne[0], 4);
        assert_int_equal(t->ne[1], 3);
        assert_int_equal(t->bytes, 48);
        assert_true(((const float *)(pol_gguf_data(g) + t->at))[11] == 12);
        pol_gguf_close(g);
        pol_bytes_free(&b);
    }
}

static void test_vocabulary_only(void **state)
{
    pol_context *ctx = *state;
    gguf_file f = gguf_begin(ctx);
    gguf_key_str(&f, "general.architecture", "llama");
    pol_bytes b = gguf_end(&f);
    pol_gguf *g;
    assert_ok(ctx, pol_gguf_parse(ctx, "v.gguf", b.data, b.len, &g));
    assert_null(pol_gguf_tensor_at(g, 0));
    assert_null(pol_gguf_tensor_find(g, "a"));
    pol_gguf_close(g);
    pol_bytes_free(&b);
}

/* No prefix of a good file is a good file, and none reads past its end (the block has exactly its bytes). */
static void test_every_truncation_is_refused(void **state)
{
    pol_context *ctx = *state;
    gguf_file f = sample(ctx);
    pol_bytes b = gguf_end(&f);
    for (size_t n = 0; n < b.len; n++) {
        uint8_t *cut = malloc(n ? n : 1);
        memcpy(cut, b.data, n);
        pol_gguf *g;
        if (pol_gguf_parse(ctx, "cut.gguf", cut, n, &g) == POL_OK)
            fail_msg("the first %zu of %zu bytes were accepted", n, b.len);
        assert_null(g);
        assert_non_null(strstr(pol_error_text(ctx), "cut.gguf: "));
        free(cut);
    }
    pol_bytes_free(&b);
}

static void refused(pol_context *ctx, gguf_file *f, pol_status code, const char *part)
{
    pol_bytes b = gguf_end(f);
    pol_gguf *g;
    assert_fails(ctx, pol_gguf_parse(ctx, "bad.gguf", b.data, b.len, &g), code, part);
    assert_null(g);
    pol_bytes_free(&b);
}

static void test_bad_header(void **state)
{
    pol_context *ctx = *state;
    pol_gguf *g;
    assert_fails(ctx, pol_gguf_parse(ctx, "bad.gguf", "PK\3\4and more of it all", 20, &g), POL_EFORMAT,
                 "bad.gguf: no GGUF file, it starts with bytes 50 4b 03 04");
    gguf_file f = sample(ctx);
    f.version = 1;
    refused(ctx, &f, POL_EUNSUPPORTED, "GGUF version 1, only 2 and 3");
    f = sample(ctx);
    f.version = 0x03000000;
    refused(ctx, &f, POL_EUNSUPPORTED, "GGUF version 50331648 (a big-endian file)");
    f = sample(ctx);
    f.n_tensors = UINT64_MAX;
    refused(ctx, &f, POL_EFORMAT, "the number of tensors is 18446744073709551615, more than the file can hold");
    f = sample(ctx);
    f.n_keys = 1 << 15;
    refused(ctx, &f, POL_EFORMAT, "the number of metadata keys is 32768");
    assert_fails(ctx, pol_gguf_open(ctx, "/no/such/file.gguf", &g), POL_EIO, "/no/such/file.gguf");
}

static void test_bad_metadata(void **state)
{
    pol_context *ctx = *state;
    gguf_file f = sample(ctx);
    gguf_key_u32(&f, "eps", 3);
    refused(ctx, &f, POL_EFORMAT, "key 'eps' is there twice");
    f = sample(ctx);
    gguf_key(&f, "odd", 13, "....", 4);
    refused(ctx, &f, POL_EFORMAT, "key 'odd' has unknown type 13");
    f = sample(ctx);
    put_array(&f, "nested", 9, 1, "................", 16);
    refused(ctx, &f, POL_EUNSUPPORTED, "key 'nested' is an array of arrays");
    f = sample(ctx);
    put_array(&f, "long", 4, UINT64_MAX / 4, "....", 4);
    refused(ctx, &f, POL_EFORMAT, "an array length is 4611686018427387903, more than");
    f = sample(ctx);
    put_array(&f, "strings", 8, 1, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    refused(ctx, &f, POL_EFORMAT, "has length 18446744073709551615, past the end");
    f = sample(ctx);
    gguf_key_u32(&f, "general.alignment", 24);
    refused(ctx, &f, POL_EFORMAT, "key 'general.alignment' is 24, not a power of two");
    f = sample(ctx);
    gguf_key_u32(&f, "general.alignment", 0);
    refused(ctx, &f, POL_EFORMAT, "key 'general.alignment' is 0");
    f = sample(ctx);
    gguf_key_str(&f, "general.alignment", "32");
    refused(ctx, &f, POL_EFORMAT, "key 'general.alignment' is no integer");
}

static void test_bad_directory(void **state)
{
    pol_context *ctx = *state;
    const uint64_t small[4] = {4, 1, 1, 1};
    gguf_file f = sample(ctx);
    gguf_record(&f, "c", 1, small, 0, 32);
    refused(ctx, &f, POL_EFORMAT, "tensors 'b' and 'c' overlap at byte");
    f = sample(ctx);
    gguf_record(&f, "c", 1, small, 0, 1 << 20);
    refused(ctx, &f, POL_EFORMAT, "tensor 'c' of 16 bytes runs past the end of the file");
    f = sample(ctx);
    gguf_record(&f, "c", 1, small, 0, UINT64_MAX - 31);
    refused(ctx, &f, POL_EFORMAT, "tensor 'c' of 16 bytes runs past the end of the file");
    f = sample(ctx);
    gguf_record(&f, "c", 1, small, 0, 97);
    refused(ctx, &f, POL_EFORMAT, "tensor 'c': offset 97 is no multiple of the alignment 32");
    f = sample(ctx);
    gguf_tensor_f32(&f, "a", 0, 1, &(float){0});
    refused(ctx, &f, POL_EFORMAT, "tensor 'a' is there twice");
    f = sample(ctx);
    gguf_record(&f, "c", 1, small, 10, 96);
    refused(ctx, &f, POL_EUNSUPPORTED, "tensor 'c' has type 10, which is not handled");
    f = sample(ctx);
    gguf_record(&f, "c", 1, small, 3, 96);
    refused(ctx, &f, POL_EFORMAT, "tensor 'c': row length 4 is no multiple of 32, the block of q4_1");
    f = sample(ctx);
    gguf_record(&f, "c", 0, small, 0, 96);
    refused(ctx, &f, POL_EFORMAT, "tensor 'c' has 0 dimensions");
    f = sample(ctx);
    gguf_record(&f, "c", 1, (uint64_t[]){0}, 0, 96);
    refused(ctx, &f, POL_EFORMAT, "tensor 'c': dimension 0 is 0");
    f = sample(ctx);
    gguf_record(&f, "c", 3, (uint64_t[]){1 << 20, 1 << 30, 1 << 20}, 0, 96);
    refused(ctx, &f, POL_EFORMAT, "tensor 'c': dimension 2 is 1048576, not a possible size");
    f = sample(ctx);
    gguf_record(&f, "c", 2, (uint64_t[]){(uint64_t)1 << 62, 2}, 0, 96);
    refused(ctx, &f, POL_EFORMAT, "tensor 'c' has 9223372036854775808 values, more than can be addressed");
    f = sample(ctx);
    gguf_record(&f, "a name that is longer than the sixty-four bytes that a tensor may be called by", 1, small, 0, 96);
    refused(ctx, &f, POL_EFORMAT, "a tensor name has 78 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads_back, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_vocabulary_only, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_every_truncation_is_refused, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_bad_header, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_bad_metadata, test_context_open, test_context_close),
        cmocka_unit_test_setup_teardown(test_bad_directory, test_context_open, test_context_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

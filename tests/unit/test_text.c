/* test_text.c - readers, formats and what they refuse. */
#include <zlib.h>
#include <zstd.h>

#include "core/base/json.h"
#include "core/base/rng.h"
#include "core/base/utf8.h"
#include "core/data/text.h"
#include "tests/unit/text_files.h"

/* Documents, each followed by a 0 byte. */
static pol_status collect(void *user, const char *text, size_t n)
{
    POL_TRY(pol_bytes_add(user, text, n));
    return pol_bytes_add(user, "", 1);
}

static pol_status read_path(fixture *f, const char *path, const pol_text_options *o, pol_bytes *out,
                            pol_text_format *used)
{
    out->ctx = f->ctx;
    pol_bytes_free(out);
    return pol_text_read(f->ctx, path, o, collect, out, used);
}

/* The same from memory: for tests with thousands of inputs. */
static pol_status read_memory(fixture *f, const char *name, const void *data, size_t n, pol_bytes *out)
{
    pol_reader *r;
    out->ctx = f->ctx;
    pol_bytes_free(out);
    POL_TRY(pol_reader_open_memory(f->ctx, name, data, n, &r));
    pol_status s = pol_text_read_from(r, NULL, collect, out, NULL);
    pol_reader_close(r);
    return s;
}

/* `expected` is a literal: its own final 0 is that of the last document. */
#define assert_reads(f, name, content, options, expected, format)              \
    do {                                                                       \
        pol_bytes got_ = {0};                                                  \
        pol_text_format used_;                                                 \
        const char *path_ = write_file(f, name, content, sizeof(content) - 1); \
        assert_ok((f)->ctx, read_path(f, path_, options, &got_, &used_));      \
        assert_int_equal(used_, format);                                       \
        assert_int_equal(got_.len, sizeof(expected));                          \
        assert_memory_equal(got_.data, expected, sizeof(expected));            \
        pol_bytes_free(&got_);                                                 \
    } while (0)

#define assert_refuses(f, name, content, options, part)                                       \
    do {                                                                                      \
        pol_bytes got_ = {0};                                                                 \
        const char *path_ = write_file(f, name, content, sizeof(content) - 1);                \
        assert_fails((f)->ctx, read_path(f, path_, options, &got_, NULL), POL_EFORMAT, part); \
        assert_non_null(strstr(pol_error_text((f)->ctx), path_));                             \
        pol_bytes_free(&got_);                                                                \
    } while (0)

/* Writes code point c in `len` bytes whether or not that is its length. */
static void put_utf8(char *p, uint32_t c, int len)
{
    static const uint8_t lead[] = {0, 0x00, 0xc0, 0xe0, 0xf0};
    for (int i = len - 1; i > 0; i--, c >>= 6)
        p[i] = (char)(0x80 | (c & 0x3f));
    p[0] = (char)(lead[len] | c);
}

/* Every code point in every length it can be written in: well-formed exactly at its shortest, and never a surrogate. */
static void test_utf8_every_code_point(void **state)
{
    (void)state;
    static const uint32_t first[] = {0, 0, 0x80, 0x800, 0x10000}, end[] = {0, 0x80, 0x800, 0x10000, 0x200000};
    for (int len = 1; len <= 4; len++)
        for (uint32_t c = 0; c < end[len]; c++) {
            char s[4];
            put_utf8(s, c, len);
            const bool good = c >= first[len] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
            if (pol_utf8_check(s, (size_t)len, NULL) != good)
                fail_msg("U+%04X in %d bytes", c, len);
        }
}

static void test_utf8_offset(void **state)
{
    (void)state;
    static const char *const broken[] = {"\x80",      "\xc3",         "\xc3(",         "\xe2\x82",
                                         "\xe2\x82(", "\xf0\x9f\x98", "\xf0\x9f(\x80", "\xfe"};
    for (size_t b = 0; b < POL_COUNT(broken); b++)
        for (size_t before = 0; before < 20; before++)
            for (int tail = 0; tail < 2; tail++) {
                char s[64] = "abcdefg\xc3\xa4hijklmnopq"; /* what comes before: a character of two bytes across the
                                                             eight-byte steps */
                if (before == 8)
                    continue; /* inside it */
                strcpy(s + before, broken[b]);
                if (tail)
                    strcat(s, "rest of the text");
                size_t at = 99;
                assert_false(pol_utf8_check(s, strlen(s), &at));
                assert_int_equal(at, before);
            }
    assert_true(pol_utf8_check("", 0, NULL));
    assert_true(pol_utf8_check("a\0b", 3, NULL));
}

static void test_plain(void **state)
{
    fixture *f = *state;
    assert_reads(f, "a.txt", "one\r\ntwo\n\n three", NULL, "one\r\ntwo\n\n three", POL_TEXT_PLAIN);
    assert_reads(f, "bom.txt", "\xef\xbb\xbf\xef\xbb\xbfx", NULL, "\xef\xbb\xbfx", POL_TEXT_PLAIN);
    assert_reads(f, "nul.txt", "a\0b", NULL, "a\0b", POL_TEXT_PLAIN);
    assert_refuses(f, "bad.txt", "one\ntwo\nth\xffree", NULL, "bad.txt: line 3, byte 10 (0xff): not UTF-8");
    assert_refuses(f, "bad-bom.txt", "\xef\xbb\xbf\n\xc3", NULL, "line 2, byte 4 (0xc3)");
    assert_refuses(f, "empty.txt", "", NULL, "no text");
    assert_refuses(f, "only-bom.txt", "\xef\xbb\xbf", NULL, "no text");
    pol_bytes got = {0};
    assert_fails(f->ctx, read_path(f, "/nowhere/x.txt", NULL, &got, NULL), POL_EIO, "/nowhere/x.txt");
    assert_fails(f->ctx, read_path(f, f->dir, NULL, &got, NULL), POL_EIO, "not a regular file");
}

static void test_separator(void **state)
{
    fixture *f = *state;
    const pol_text_options o = {.separator = "<|end|>"}, none = {.separator = ""};
    assert_reads(f, "a.txt", "\n one \ntwo \r\n<|end|>\n\n<|end|>three<|end||end|><|end|>", &o,
                 "one \ntwo\0three<|end||end|>", POL_TEXT_PLAIN);
    assert_reads(f, "a.txt", "<|end|>x", &o, "x", POL_TEXT_PLAIN);
    assert_reads(f, "a.txt", " x\n", &none, " x\n", POL_TEXT_PLAIN);
    assert_reads(f, "a.jsonl", "{\"text\":\" a<|end|>b\"}", &o, " a<|end|>b", POL_TEXT_JSONL);
    assert_refuses(f, "a.txt", "\n<|end|> <|end|>\n", &o, "no text");
}

static void test_jsonl(void **state)
{
    fixture *f = *state;
    const pol_text_options jsonl = {.format = POL_TEXT_JSONL}, body = {.format = POL_TEXT_JSONL, .field = "body"};
    assert_reads(
        f, "a.jsonl",
        "{\"text\":\"one\",\"n\":123456789012345678901}\r\n\n \t\r\n{\"text\":\"\"}\n{\"text\":\"t\\u00e4\\u0000o\"}",
        NULL, "one\0t\xc3\xa4\0o", POL_TEXT_JSONL);
    assert_reads(f, "a.txt", "\xef\xbb\xbf{\"text\":1,\"body\":\"b\"}\n", &body, "b", POL_TEXT_JSONL);
    assert_refuses(f, "b.jsonl", "{\"text\":\"x\"}\n\n{\"text\":\"a\",\"text\":\"b\"}\n", NULL, "line 3, column");
    assert_refuses(f, "c.jsonl", "{\"text\":\"x\"}\n{\"body\":\"a\"}\n", NULL, "line 2: field 'text' is missing");
    assert_refuses(f, "d.jsonl", "{\"text\":null}\n", NULL, "line 1: field 'text' is not a string");
    assert_refuses(f, "e.jsonl", "[\"text\"]\n", NULL, "line 1: not an object");
    assert_refuses(f, "f.jsonl", "{\"text\":\"x\"}{\"text\":\"y\"}\n", NULL, "line 1, column");
    assert_refuses(f, "g.jsonl", "{\"text\":\"x\"}\n{\"text\":\"\xff\"}", NULL, "line 2, byte 22 (0xff): not UTF-8");
    assert_refuses(f, "h.jsonl", "{\"text\":\"\\ud800\"}", NULL, "line 1, column");
    assert_refuses(f, "i.jsonl", "{\"text\":\"\"}\n\n", NULL, "no text");
    assert_refuses(f, "j.txt", "plain text", &jsonl, "line 1, column");
}

/* A line that is longer than the reader's blocks, between short ones. */
static void test_jsonl_long_line(void **state)
{
    fixture *f = *state;
    enum { N = 300001 };
    pol_bytes file = {.ctx = f->ctx}, expected = {.ctx = f->ctx}, got = {0};
    char *text = malloc(N + 1);
    memset(text, 'x', N);
    text[N] = 0;
    for (int i = 0; i < 3; i++) {
        const char *t = i == 1 ? text : "short";
        assert_ok(f->ctx, pol_bytes_printf(&file, "{\"text\":\"%s\"}\n", t));
        assert_ok(f->ctx, collect(&expected, t, strlen(t)));
    }
    assert_ok(f->ctx, read_path(f, write_file(f, "long.jsonl", file.data, file.len), NULL, &got, NULL));
    assert_int_equal(got.len, expected.len);
    assert_memory_equal(got.data, expected.data, got.len);
    free(text);
    pol_bytes_free(&file);
    pol_bytes_free(&expected);
    pol_bytes_free(&got);
}

static pol_status stop_at_two(void *user, const char *text, size_t n)
{
    (void)text;
    (void)n;
    return ++*(int *)user == 2 ? POL_ELIMIT : POL_OK;
}

static void test_stopping(void **state)
{
    fixture *f = *state;
    static const char three[] = "{\"text\":\"a\"}\n{\"text\":\"b\"}\n{\"text\":\"c\"}\n";
    const char *path = write_file(f, "a.jsonl", three, sizeof three - 1);
    int calls = 0;
    assert_int_equal(pol_text_read(f->ctx, path, NULL, stop_at_two, &calls, NULL), POL_ELIMIT);
    assert_int_equal(calls, 2);
    pol_context_stop(f->ctx);
    assert_fails(f->ctx, pol_text_read(f->ctx, path, NULL, stop_at_two, &calls, NULL), POL_EINTERRUPTED, "");
    assert_int_equal(calls, 2);
}

static void test_format_is_found(void **state)
{
    fixture *f = *state;
    static const char *const names[] = {"x.jsonl", "x.JSONL.gz", "x.jsonl.zst", "c4-train.00000-of-01024.json.gz",
                                        "x.ndjson"};
    for (size_t i = 0; i < POL_COUNT(names); i++)
        assert_reads(f, names[i], "{\"text\":\"a\"}\n", NULL, "a", POL_TEXT_JSONL);
    assert_reads(f, "x.jsonl.txt", "{\"text\":\"a\"}\n", NULL, "{\"text\":\"a\"}\n", POL_TEXT_PLAIN);
    assert_reads(f, "wiki", " \n = A = ", NULL, "\n\n = A = ", POL_TEXT_WIKITEXT);
    assert_reads(f, "not-1", " \n = A ", NULL, " \n = A ", POL_TEXT_PLAIN);
    assert_reads(f, "not-2", "= A = \n", NULL, "= A = \n", POL_TEXT_PLAIN);
    assert_reads(f, "not-3", " = = \n", NULL, " = = \n", POL_TEXT_PLAIN);
    const pol_text_options plain = {.format = POL_TEXT_PLAIN}, wiki = {.format = POL_TEXT_WIKITEXT};
    assert_reads(f, "wiki", " = A = \n", &plain, " = A = \n", POL_TEXT_PLAIN);
    assert_reads(f, "text.jsonl", "a\nb", &wiki, "a\n\n\nb", POL_TEXT_WIKITEXT);
}

/* Rows "", " = T = \n", "", " one \n", " two\n", "" joined by "\n\n". */
static void test_wikitext_join(void **state)
{
    fixture *f = *state;
    const pol_text_options wiki = {.format = POL_TEXT_WIKITEXT};
    static const char joined[] = "\n\n = T = \n\n\n\n\n one \n\n\n two\n\n\n";
    assert_reads(f, "w", " \n = T = \n \n one \n two\n\n", NULL, joined, POL_TEXT_WIKITEXT);
    /* Python's text mode takes three kinds of line end, and strip() all of Unicode's white space. */
    assert_reads(f, "w", " \r\n = T = \r\n \r\n one \r two\r\n\r\n", NULL, joined, POL_TEXT_WIKITEXT);
    assert_reads(f, "w", "\xc2\xa0\n = T = \n\xe3\x80\x80\t\xe2\x80\xa8\n one \n two\n\x1f", NULL, joined,
                 POL_TEXT_WIKITEXT);
    /* A zero-width space is no white space there. The last line may lack its newline. */
    assert_reads(f, "w", "a\n\xe2\x80\x8b\nb", &wiki, "a\n\n\n\xe2\x80\x8b\n\n\nb", POL_TEXT_WIKITEXT);
    assert_reads(f, "w", "a\n", &wiki, "a\n", POL_TEXT_WIKITEXT);
    assert_refuses(f, "w", " ", &wiki, "no text");
}

/* tests/golden/wikitext.py has joined the file in Python. */
static void test_wikitext_test_split(void **state)
{
    fixture *f = *state;
    const char *path = shared_file("text/wikitext2/wiki.test.raw");
    json_t *j;
    int64_t bytes, crc;
    assert_ok(f->ctx, pol_json_read(f->ctx, test_file("wikitext_join.json"), 1 << 16, &j));
    assert_ok(f->ctx, pol_json_int(f->ctx, "golden", j, "bytes", 0, INT64_MAX, &bytes));
    assert_ok(f->ctx, pol_json_int(f->ctx, "golden", j, "crc32", 0, UINT32_MAX, &crc));
    json_decref(j);
    pol_bytes got = {0};
    pol_text_format used;
    assert_ok(f->ctx, read_path(f, path, NULL, &got, &used));
    assert_int_equal(used, POL_TEXT_WIKITEXT);
    assert_int_equal(got.len - 1, bytes);
    assert_int_equal(crc32(0, (const Bytef *)got.data, (uInt)bytes), crc);
    pol_bytes_free(&got);
}

/* Appends one gzip member, or one zstd frame with a checksum. */
static void add_gzip(pol_bytes *b, const char *text, size_t n)
{
    z_stream z = {.next_in = (Bytef *)text, .avail_in = (uInt)n};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    const size_t room = deflateBound(&z, n);
    assert_ok(b->ctx, pol_bytes_reserve(b, room));
    z.next_out = (Bytef *)b->data + b->len;
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    b->len += z.total_out;
    deflateEnd(&z);
}

static void add_zstd(pol_bytes *b, const char *text, size_t n)
{
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
    const size_t room = ZSTD_compressBound(n);
    assert_ok(b->ctx, pol_bytes_reserve(b, room));
    const size_t made = ZSTD_compress2(c, b->data + b->len, room, text, n);
    assert_false(ZSTD_isError(made));
    b->len += made;
    ZSTD_freeCCtx(c);
}

typedef void (*compressor)(pol_bytes *, const char *, size_t);
static const compressor compressors[] = {add_gzip, add_zstd};

/* 1.5 MB of words that do not repeat: many blocks of either format and of the reader. */
static void test_compressed(void **state)
{
    fixture *f = *state;
    enum { WORDS = 150000 };
    pol_bytes text = {.ctx = f->ctx}, got = {0};
    for (uint32_t i = 0; i < WORDS; i++) {
        uint32_t w[4];
        pol_philox(1, POL_STREAM_TEST, 0, 0, i, w);
        assert_ok(f->ctx, pol_bytes_printf(&text, "%x %c", w[0], w[1] % 16 ? 'e' : '\n'));
    }
    for (size_t c = 0; c < POL_COUNT(compressors); c++)
        for (int parts = 1; parts <= 3; parts++) {
            pol_bytes file = {.ctx = f->ctx};
            for (int i = 0; i < parts; i++) {
                const size_t from = text.len * (size_t)i / (size_t)parts,
                             to = text.len * (size_t)(i + 1) / (size_t)parts;
                compressors[c](&file, text.data + from, to - from);
                compressors[c](&file, "", 0); /* an empty part changes nothing */
            }
            assert_true(file.len < text.len);
            assert_ok(f->ctx, read_path(f, write_file(f, "packed", file.data, file.len), NULL, &got, NULL));
            assert_int_equal(got.len, text.len + 1);
            assert_memory_equal(got.data, text.data, text.len);
            pol_bytes_free(&file);
        }
    pol_bytes_free(&text);
    pol_bytes_free(&got);
}

static void test_zstd_skippable_first(void **state)
{
    fixture *f = *state;
    pol_bytes file = {.ctx = f->ctx}, got = {0};
    assert_ok(f->ctx, pol_bytes_add(&file, "\x5a\x2a\x4d\x18\x03\0\0\0abc", 11));
    add_zstd(&file, "text", 4);
    assert_ok(f->ctx, read_path(f, write_file(f, "x", file.data, file.len), NULL, &got, NULL));
    assert_string_equal(got.data, "text");
    pol_bytes_free(&file);
    pol_bytes_free(&got);
}

/* Cut off anywhere, or followed by what is no further part: refused, never a shorter text. A flipped bit: refused, or
 * without consequence (a gzip header has fields that nobody checks); never another text. */
static void test_damaged(void **state)
{
    fixture *f = *state;
    static const char text[] = "the quick brown fox jumps over the lazy dog, and then the quick brown fox jumps again";
    for (size_t c = 0; c < POL_COUNT(compressors); c++) {
        pol_bytes file = {.ctx = f->ctx}, got = {0};
        compressors[c](&file, text, sizeof text - 1);
        for (size_t n = 4; n < file.len; n++) {
            assert_fails(f->ctx, read_memory(f, "cut", file.data, n, &got), POL_EFORMAT, "cut: the ");
            assert_non_null(strstr(pol_error_text(f->ctx), "data is cut off at byte"));
            assert_int_equal(got.len, 0);
        }
        int refused = 0, same = 0;
        for (size_t bit = 32; bit < file.len * 8; bit++) {
            file.data[bit / 8] ^= (char)(1 << bit % 8);
            if (read_memory(f, "flip", file.data, file.len, &got) == POL_OK) {
                assert_string_equal(got.data, text);
                same++;
            } else {
                assert_int_equal(pol_error_code(f->ctx), POL_EFORMAT);
                refused++;
            }
            file.data[bit / 8] ^= (char)(1 << bit % 8);
        }
        assert_true(refused > 5 * same);
        assert_ok(f->ctx, pol_bytes_add(&file, "garbage", 7));
        assert_fails(f->ctx, read_memory(f, "tail", file.data, file.len, &got), POL_EFORMAT, "damaged");
        pol_bytes_free(&file);
        pol_bytes_free(&got);
    }
}

/* A text, or a line, that unpacks to more than it may. */
static void test_limit(void **state)
{
    fixture *f = *state;
    static const char *const names[] = {"bomb", "bomb.jsonl"};
    static const char *const messages[] = {"bomb: more than 99999 bytes", "bomb.jsonl: line 1: more than 99999 bytes"};
    char *text = malloc(100000);
    memset(text, ' ', 100000);
    memcpy(text, "{\"text\":\"x\"}", 12);
    for (size_t c = 0; c < POL_COUNT(compressors); c++) {
        pol_bytes file = {.ctx = f->ctx}, got = {.ctx = f->ctx};
        compressors[c](&file, text, 100000);
        for (size_t k = 0; k < POL_COUNT(names); k++)
            for (size_t limit = 99999; limit <= 100000; limit++) {
                pol_reader *r;
                assert_ok(f->ctx, pol_reader_open_memory(f->ctx, names[k], file.data, file.len, &r));
                pol_reader_set_limit(r, limit);
                if (limit < 100000)
                    assert_fails(f->ctx, pol_text_read_from(r, NULL, collect, &got, NULL), POL_EFORMAT, messages[k]);
                else
                    assert_ok(f->ctx, pol_text_read_from(r, NULL, collect, &got, NULL));
                pol_reader_close(r);
            }
        pol_bytes_free(&got);
        pol_bytes_free(&file);
    }
    free(text);
}

int main(void)
{
#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, fixture_open, fixture_close)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_every_code_point),
        cmocka_unit_test(test_utf8_offset),
        WITH_FILES(test_plain),
        WITH_FILES(test_separator),
        WITH_FILES(test_jsonl),
        WITH_FILES(test_jsonl_long_line),
        WITH_FILES(test_stopping),
        WITH_FILES(test_format_is_found),
        WITH_FILES(test_wikitext_join),
        WITH_FILES(test_wikitext_test_split),
        WITH_FILES(test_compressed),
        WITH_FILES(test_zstd_skippable_first),
        WITH_FILES(test_damaged),
        WITH_FILES(test_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

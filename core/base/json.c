/* json.c - jansson with errors that name file and field. */
#include "core/base/json.h"

#include <math.h>
#include <string.h>

#include "core/base/file.h"

/* The value itself, or the integer that it stands for where all numbers were read as reals. */
static json_t *as_integer(json_t *v)
{
    const double x = json_real_value(v);
    return json_is_real(v) && x == floor(x) && fabs(x) < 0x1p53 ? json_integer((json_int_t)x) : json_incref(v);
}

static void restore_integers(json_t *j)
{
    const char *key;
    json_t *v;
    void *next;
    json_object_foreach_safe(j, next, key, v) {
        restore_integers(v);
        json_object_set_new(j, key, as_integer(v));
    }
    for (size_t i = 0; i < json_array_size(j); i++) {
        restore_integers(json_array_get(j, i));
        json_array_set_new(j, i, as_integer(json_array_get(j, i)));
    }
}

pol_status pol_json_parse(pol_context *ctx, const char *name, const void *text, size_t n, json_t **out)
{
    json_error_t e;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    /* Tokenizer settings say "no limit" by an integer of 31 digits: it becomes a real, the others of its file stay integers. */
    if (!*out && json_error_code(&e) == json_error_numeric_overflow) {
        *out = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &e);
        restore_integers(*out);
    }
    if (*out)
        return POL_OK;
    return pol_fail(ctx, json_error_code(&e) == json_error_out_of_memory ? POL_ENOMEM : POL_EFORMAT,
                    "%s: line %d, column %d: %s", name, e.line, e.column, e.text);
}

pol_status pol_json_read(pol_context *ctx, const char *path, size_t limit, json_t **out)
{
    *out = NULL;
    pol_bytes text;
    POL_TRY(pol_file_read(ctx, path, limit, &text));
    pol_status s = pol_json_parse(ctx, path, text.data ? text.data : "", text.len, out);
    pol_bytes_free(&text);
    return s;
}

static int write_piece(const char *piece, size_t n, void *user) { return pol_outfile_write(user, piece, n) < 0 ? -1 : 0; }

pol_status pol_json_write(pol_context *ctx, const char *path, const json_t *j)
{
    pol_outfile o;
    POL_TRY(pol_outfile_open(ctx, path, &o));
    if (json_dump_callback(j, write_piece, &o, JSON_INDENT(1) | JSON_REAL_PRECISION(15)) < 0 ||
        pol_outfile_write(&o, "\n", 1) < 0) {
        pol_outfile_abort(&o);
        return pol_error_code(ctx) < 0 ? pol_error_code(ctx) : pol_fail(ctx, POL_EIO, "%s: cannot be written", path);
    }
    return pol_outfile_commit(&o);
}

static const char *type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    }
    return "nothing";
}

/* The value, or NULL where absent or null. */
static const json_t *find(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

static pol_status missing(pol_context *ctx, const char *where, const char *key)
{
    return pol_fail(ctx, POL_EFORMAT, "%s: '%s' is missing", where, key);
}

static pol_status wrong_type(pol_context *ctx, const char *where, const char *key, const json_t *v, const char *want)
{
    return pol_fail(ctx, POL_EFORMAT, "%s: '%s' is %s, not %s", where, key, type_name(v), want);
}

pol_status pol_json_int_opt(pol_context *ctx, const char *where, const json_t *o, const char *key, int64_t lo, int64_t hi,
                            int64_t *out)
{
    const json_t *v = find(o, key);
    if (!v)
        return POL_OK;
    if (!json_is_integer(v))
        return wrong_type(ctx, where, key, v, "an integer");
    const int64_t i = json_integer_value(v);
    if (i < lo || i > hi)
        return pol_fail(ctx, POL_EFORMAT, "%s: '%s' is %lld, outside %lld..%lld", where, key, (long long)i, (long long)lo,
                        (long long)hi);
    *out = i;
    return POL_OK;
}

pol_status pol_json_int(pol_context *ctx, const char *where, const json_t *o, const char *key, int64_t lo, int64_t hi,
                        int64_t *out)
{
    return find(o, key) ? pol_json_int_opt(ctx, where, o, key, lo, hi, out) : missing(ctx, where, key);
}

pol_status pol_json_num_opt(pol_context *ctx, const char *where, const json_t *o, const char *key, double lo, double hi,
                            double *out)
{
    const json_t *v = find(o, key);
    if (!v)
        return POL_OK;
    if (!json_is_number(v))
        return wrong_type(ctx, where, key, v, "a number");
    const double x = json_number_value(v);
    if (!(x >= lo && x <= hi))
        return pol_fail(ctx, POL_EFORMAT, "%s: '%s' is %g, outside %g..%g", where, key, x, lo, hi);
    *out = x;
    return POL_OK;
}

pol_status pol_json_num(pol_context *ctx, const char *where, const json_t *o, const char *key, double lo, double hi, double *out)
{
    return find(o, key) ? pol_json_num_opt(ctx, where, o, key, lo, hi, out) : missing(ctx, where, key);
}

pol_status pol_json_bool_opt(pol_context *ctx, const char *where, const json_t *o, const char *key, bool *out)
{
    const json_t *v = find(o, key);
    if (!v)
        return POL_OK;
    if (!json_is_boolean(v))
        return wrong_type(ctx, where, key, v, "true or false");
    *out = json_is_true(v);
    return POL_OK;
}

pol_status pol_json_str_opt(pol_context *ctx, const char *where, const json_t *o, const char *key, const char **out)
{
    const json_t *v = find(o, key);
    if (!v)
        return POL_OK;
    if (!json_is_string(v))
        return wrong_type(ctx, where, key, v, "a string");
    *out = json_string_value(v);
    return POL_OK;
}

pol_status pol_json_str(pol_context *ctx, const char *where, const json_t *o, const char *key, const char **out)
{
    return find(o, key) ? pol_json_str_opt(ctx, where, o, key, out) : missing(ctx, where, key);
}

pol_status pol_json_array(pol_context *ctx, const char *where, const json_t *o, const char *key, json_t **out)
{
    json_t *v = json_object_get(o, key);
    if (!v)
        return missing(ctx, where, key);
    if (!json_is_array(v))
        return wrong_type(ctx, where, key, v, "an array");
    *out = v;
    return POL_OK;
}

pol_status pol_json_object(pol_context *ctx, const char *where, const json_t *o, const char *key, json_t **out)
{
    json_t *v = json_object_get(o, key);
    if (!v)
        return missing(ctx, where, key);
    if (!json_is_object(v))
        return wrong_type(ctx, where, key, v, "an object");
    *out = v;
    return POL_OK;
}

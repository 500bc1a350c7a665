/* gguf.c - the header of a GGUF file, checked once, then looked up. */
#include "core/model/gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are copied out of little-endian files as they are");

/* Far above any real file; they bound what a damaged count can ask for. */
enum { MAX_KEYS = 1 << 16, MAX_TENSORS = 1 << 16, MAX_STRINGS = 1 << 24, MAX_ALIGNMENT = 1 << 16 };

/* Numbered as in the file. */
typedef enum value_type {
    V_U8 = 0,
    V_I8,
    V_U16,
    V_I16,
    V_U32,
    V_I32,
    V_F32,
    V_BOOL,
    V_STRING,
    V_ARRAY,
    V_U64,
    V_I64,
    V_F64
} value_type;
static const uint8_t value_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

typedef struct entry {
    const char *key;
    size_t key_len;
    uint32_t type; /* of the value, or of the elements */
    bool is_array;
    int64_t n;           /* elements; 1 for a scalar */
    uint64_t at;         /* of the first value in the file */
    uint64_t *string_at; /* [n] places of the lengths, for an array of strings: what makes lookup O(1) */
} entry;

struct pol_gguf {
    pol_context *ctx;
    char *name;
    pol_map map; /* zero where the memory is borrowed */
    const uint8_t *data;
    uint64_t size;
    entry *entries; /* by key */
    int64_t n_entries;
    pol_gguf_tensor *tensors; /* by name */
    int64_t n_tensors;
};

/* ---- reading front to back ---- */

typedef struct cursor {
    pol_gguf *g;
    uint64_t at;
} cursor;

static pol_status truncated(const cursor *c, const char *what)
{
    return pol_fail(c->g->ctx, POL_EFORMAT,
                    "%s: %s at byte %" PRIu64 " runs past the end of the file (%" PRIu64 " bytes)", c->g->name, what,
                    c->at, c->g->size);
}

static pol_status take(cursor *c, void *dst, size_t n, const char *what)
{
    if (n > c->g->size - c->at)
        return truncated(c, what);
    memcpy(dst, c->g->data + c->at, n);
    c->at += n;
    return POL_OK;
}

static pol_status take_string(cursor *c, const char **s, size_t *n, const char *what)
{
    uint64_t len = 0;
    POL_TRY(take(c, &len, sizeof len, what));
    if (len > c->g->size - c->at)
        return pol_fail(c->g->ctx, POL_EFORMAT,
                        "%s: %s at byte %" PRIu64 " has length %" PRIu64 ", past the end of the file", c->g->name, what,
                        c->at - sizeof len, len);
    *s = (const char *)c->g->data + c->at;
    *n = (size_t)len;
    c->at += len;
    return POL_OK;
}

static pol_status take_count(cursor *c, uint64_t limit, uint64_t bytes_each, const char *what, int64_t *out)
{
    uint64_t n = 0;
    POL_TRY(take(c, &n, sizeof n, what));
    if (n > limit || n > (c->g->size - c->at) / bytes_each)
        return pol_fail(c->g->ctx, POL_EFORMAT, "%s: %s is %" PRIu64 ", more than the file can hold", c->g->name, what,
                        n);
    *out = (int64_t)n;
    return POL_OK;
}

/* ---- metadata ---- */

static pol_status read_string_array(cursor *c, entry *e)
{
    pol_gguf *g = c->g;
    e->string_at = pol_alloc_array(g->ctx, e->n, sizeof *e->string_at);
    if (!e->string_at)
        return POL_ENOMEM;
    for (int64_t i = 0; i < e->n; i++) {
        const char *s;
        size_t n;
        e->string_at[i] = c->at;
        POL_TRY(take_string(c, &s, &n, "a string of an array"));
    }
    return POL_OK;
}

static pol_status read_value(cursor *c, entry *e)
{
    pol_gguf *g = c->g;
    const int shown = (int)(e->key_len < 80 ? e->key_len : 80);
    POL_TRY(take(c, &e->type, sizeof e->type, "a value type"));
    e->n = 1;
    if (e->type == V_ARRAY) {
        e->is_array = true;
        POL_TRY(take(c, &e->type, sizeof e->type, "an element type"));
        if (e->type == V_ARRAY)
            return pol_fail(g->ctx, POL_EUNSUPPORTED, "%s: key '%.*s' is an array of arrays", g->name, shown, e->key);
    }
    if (e->type >= POL_COUNT(value_bytes))
        return pol_fail(g->ctx, POL_EFORMAT, "%s: key '%.*s' has unknown type %" PRIu32, g->name, shown, e->key,
                        e->type);
    const uint64_t each = e->type == V_STRING ? sizeof(uint64_t) : value_bytes[e->type];
    if (e->is_array)
        POL_TRY(take_count(c, e->type == V_STRING ? MAX_STRINGS : UINT64_MAX, each, "an array length", &e->n));
    e->at = c->at;
    if (e->type != V_STRING) {
        if ((uint64_t)e->n > (g->size - c->at) / each)
            return truncated(c, "a value");
        c->at += (uint64_t)e->n * each;
        return POL_OK;
    }
    if (e->is_array)
        return read_string_array(c, e);
    const char *s;
    size_t n;
    return take_string(c, &s, &n, "a string value");
}

static int compare_keys(const char *a, size_t na, const char *b, size_t nb)
{
    const int order = memcmp(a, b, na < nb ? na : nb);
    return order ? order : (na > nb) - (na < nb);
}

static int by_key(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return compare_keys(x->key, x->key_len, y->key, y->key_len);
}

static pol_status read_metadata(cursor *c, int64_t n)
{
    pol_gguf *g = c->g;
    g->entries = pol_alloc_array(g->ctx, n, sizeof *g->entries);
    if (!g->entries)
        return POL_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        entry *e = &g->entries[g->n_entries++];
        *e = (entry){0};
        POL_TRY(take_string(c, &e->key, &e->key_len, "a metadata key"));
        POL_TRY(read_value(c, e));
    }
    qsort(g->entries, (size_t)n, sizeof *g->entries, by_key);
    for (int64_t i = 1; i < n; i++) {
        const entry *e = &g->entries[i];
        if (by_key(e - 1, e) == 0)
            return pol_fail(g->ctx, POL_EFORMAT, "%s: key '%.*s' is there twice", g->name,
                            (int)pol_min_i64((int64_t)e->key_len, 80), e->key);
    }
    return POL_OK;
}

/* ---- tensor directory ---- */

static pol_status read_tensor(cursor *c, uint64_t alignment, pol_gguf_tensor *t)
{
    pol_gguf *g = c->g;
    const char *name;
    size_t n;
    uint32_t n_dims = 0, type = 0;
    *t = (pol_gguf_tensor){.ne = {1, 1, 1, 1}};
    POL_TRY(take_string(c, &name, &n, "a tensor name"));
    if (n == 0 || n >= sizeof t->name)
        return pol_fail(g->ctx, POL_EFORMAT, "%s: a tensor name has %zu bytes, outside 1..%zu", g->name, n,
                        sizeof t->name - 1);
    memcpy(t->name, name, n);
    POL_TRY(take(c, &n_dims, sizeof n_dims, "a tensor's number of dimensions"));
    if (n_dims < 1 || n_dims > POL_COUNT(t->ne))
        return pol_fail(g->ctx, POL_EFORMAT, "%s: tensor '%s' has %" PRIu32 " dimensions, outside 1..4", g->name,
                        t->name, n_dims);
    t->n_dims = (int32_t)n_dims;
    uint64_t count = 1;
    for (uint32_t d = 0; d < n_dims; d++) {
        uint64_t ne = 0;
        POL_TRY(take(c, &ne, sizeof ne, "a tensor's shape"));
        if (ne == 0 || ne > INT64_MAX || !pol_mul_u64(count, ne, &count))
            return pol_fail(g->ctx, POL_EFORMAT,
                            "%s: tensor '%s': dimension %" PRIu32 " is %" PRIu64 ", not a possible size", g->name,
                            t->name, d, ne);
        t->ne[d] = (int64_t)ne;
    }
    POL_TRY(take(c, &type, sizeof type, "a tensor type"));
    POL_TRY(take(c, &t->at, sizeof t->at, "a tensor's offset"));
    t->coding = pol_coding_of_gguf(type);
    if (!t->coding)
        return pol_fail(g->ctx, POL_EUNSUPPORTED, "%s: tensor '%s' has type %" PRIu32 ", which is not handled", g->name,
                        t->name, type);
    if (t->ne[0] % t->coding->values)
        return pol_fail(g->ctx, POL_EFORMAT,
                        "%s: tensor '%s': row length %" PRId64 " is no multiple of %d, the block of %s", g->name,
                        t->name, t->ne[0], t->coding->values, t->coding->name);
    if (!pol_mul_u64(count / (uint64_t)t->coding->values, (uint64_t)t->coding->bytes, &t->bytes))
        return pol_fail(g->ctx, POL_EFORMAT, "%s: tensor '%s' has %" PRIu64 " values, more than can be addressed",
                        g->name, t->name, count);
    if (t->at % alignment)
        return pol_fail(g->ctx, POL_EFORMAT,
                        "%s: tensor '%s': offset %" PRIu64 " is no multiple of the alignment %" PRIu64, g->name,
                        t->name, t->at, alignment);
    return POL_OK;
}

static int by_place(const void *a, const void *b)
{
    const pol_gguf_tensor *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const pol_gguf_tensor *)a)->name, ((const pol_gguf_tensor *)b)->name);
}

/* Offsets become places in the file; each tensor lies within the file and after the one before it. */
static pol_status place_tensors(pol_gguf *g, uint64_t start)
{
    pol_gguf_tensor *t = g->tensors;
    qsort(t, (size_t)g->n_tensors, sizeof *t, by_place);
    for (int64_t i = 0; i < g->n_tensors; i++) {
        uint64_t end;
        if (!pol_add_u64(t[i].at, start, &t[i].at) || !pol_add_u64(t[i].at, t[i].bytes, &end) || end > g->size)
            return pol_fail(g->ctx, POL_EFORMAT,
                            "%s: tensor '%s' of %" PRIu64 " bytes runs past the end of the file (%" PRIu64 " bytes)",
                            g->name, t[i].name, t[i].bytes, g->size);
        if (i && t[i].at < t[i - 1].at + t[i - 1].bytes)
            return pol_fail(g->ctx, POL_EFORMAT, "%s: tensors '%s' and '%s' overlap at byte %" PRIu64, g->name,
                            t[i - 1].name, t[i].name, t[i].at);
    }
    qsort(t, (size_t)g->n_tensors, sizeof *t, by_name);
    for (int64_t i = 1; i < g->n_tensors; i++)
        if (by_name(&t[i - 1], &t[i]) == 0)
            return pol_fail(g->ctx, POL_EFORMAT, "%s: tensor '%s' is there twice", g->name, t[i].name);
    return POL_OK;
}

static pol_status read_directory(cursor *c, int64_t n)
{
    pol_gguf *g = c->g;
    int64_t alignment = 32;
    if (pol_gguf_has(g, "general.alignment") && !pol_gguf_int(g, "general.alignment", &alignment))
        return pol_fail(g->ctx, POL_EFORMAT, "%s: key 'general.alignment' is no integer", g->name);
    if (alignment < 1 || alignment > MAX_ALIGNMENT || (alignment & (alignment - 1)))
        return pol_fail(g->ctx, POL_EFORMAT, "%s: key 'general.alignment' is %" PRId64 ", not a power of two up to %d",
                        g->name, alignment, MAX_ALIGNMENT);
    g->tensors = pol_alloc_array(g->ctx, n, sizeof *g->tensors);
    if (!g->tensors)
        return POL_ENOMEM;
    for (; g->n_tensors < n; g->n_tensors++)
        POL_TRY(read_tensor(c, (uint64_t)alignment, &g->tensors[g->n_tensors]));
    const uint64_t a = (uint64_t)alignment;
    return place_tensors(g, (c->at + a - 1) / a * a);
}

static pol_status read_header(pol_gguf *g)
{
    cursor c = {g, 0};
    char magic[4];
    uint32_t version = 0;
    int64_t n_tensors, n_keys;
    POL_TRY(take(&c, magic, sizeof magic, "the magic number"));
    if (memcmp(magic, "GGUF", 4))
        return pol_fail(g->ctx, POL_EFORMAT, "%s: no GGUF file, it starts with bytes %02x %02x %02x %02x", g->name,
                        g->data[0], g->data[1], g->data[2], g->data[3]);
    POL_TRY(take(&c, &version, sizeof version, "the version"));
    if (version != 2 && version != 3)
        return pol_fail(g->ctx, POL_EUNSUPPORTED, "%s: GGUF version %" PRIu32 "%s, only 2 and 3 are handled", g->name,
                        version, version & 0xffff ? "" : " (a big-endian file)");
    /* The least that a tensor record and a metadata entry take. */
    POL_TRY(take_count(&c, MAX_TENSORS, 8 + 4 + 8 + 4 + 8, "the number of tensors", &n_tensors));
    POL_TRY(take_count(&c, MAX_KEYS, 8 + 4 + 1, "the number of metadata keys", &n_keys));
    POL_TRY(read_metadata(&c, n_keys));
    return read_directory(&c, n_tensors);
}

static pol_status new_gguf(pol_context *ctx, const char *name, pol_gguf **out)
{
    pol_gguf *g = pol_alloc_zero(ctx, sizeof *g);
    if (!g)
        return POL_ENOMEM;
    g->ctx = ctx;
    g->name = pol_strdup(ctx, name);
    if (!g->name) {
        pol_gguf_close(g);
        return POL_ENOMEM;
    }
    *out = g;
    return POL_OK;
}

static pol_status finish(pol_gguf *g, const void *data, size_t n, pol_gguf **out)
{
    g->data = data;
    g->size = n;
    const pol_status s = read_header(g);
    if (s < 0)
        pol_gguf_close(g);
    else
        *out = g;
    return s;
}

pol_status pol_gguf_parse(pol_context *ctx, const char *name, const void *data, size_t n, pol_gguf **out)
{
    pol_gguf *g;
    *out = NULL;
    POL_TRY(new_gguf(ctx, name, &g));
    return finish(g, data, n, out);
}

pol_status pol_gguf_open(pol_context *ctx, const char *path, pol_gguf **out)
{
    pol_gguf *g;
    *out = NULL;
    POL_TRY(new_gguf(ctx, path, &g));
    const pol_status s = pol_map_open(ctx, path, &g->map);
    if (s < 0) {
        pol_gguf_close(g);
        return s;
    }
    return finish(g, g->map.data, g->map.size, out);
}

void pol_gguf_close(pol_gguf *g)
{
    if (!g)
        return;
    for (int64_t i = 0; i < g->n_entries; i++)
        pol_free(g->ctx, g->entries[i].string_at);
    pol_free(g->ctx, g->entries);
    pol_free(g->ctx, g->tensors);
    pol_free(g->ctx, g->name);
    pol_map_close(&g->map);
    pol_free(g->ctx, g);
}

/* ---- lookup ---- */

static const entry *find(const pol_gguf *g, const char *key, bool is_array)
{
    const entry wanted = {.key = key, .key_len = strlen(key)};
    const entry *e = g->n_entries ? bsearch(&wanted, g->entries, (size_t)g->n_entries, sizeof *e, by_key) : NULL;
    return e && e->is_array == is_array ? e : NULL;
}

static bool string_at(const pol_gguf *g, uint64_t at, const char **s, size_t *n)
{
    uint64_t len;
    memcpy(&len, g->data + at, sizeof len);
    *s = (const char *)g->data + at + sizeof len;
    *n = (size_t)len;
    return true;
}

static bool element_int(const pol_gguf *g, const entry *e, int64_t i, int64_t *v)
{
    if (e->type == V_STRING || e->type == V_F32 || e->type == V_F64)
        return false;
    const size_t bytes = value_bytes[e->type];
    uint64_t u = 0;
    memcpy(&u, g->data + e->at + (uint64_t)i * bytes, bytes);
    switch (e->type) {
    case V_I8: *v = (int8_t)u; return true;
    case V_I16: *v = (int16_t)u; return true;
    case V_I32: *v = (int32_t)u; return true;
    case V_I64: *v = (int64_t)u; return true;
    case V_BOOL: *v = u != 0; return true;
    default: break;
    }
    if (u > INT64_MAX)
        return false;
    *v = (int64_t)u;
    return true;
}

static bool element_float(const pol_gguf *g, const entry *e, int64_t i, double *v)
{
    if (e->type == V_F32) {
        float f;
        memcpy(&f, g->data + e->at + (uint64_t)i * sizeof f, sizeof f);
        *v = f;
        return true;
    }
    if (e->type == V_F64) {
        memcpy(v, g->data + e->at + (uint64_t)i * sizeof *v, sizeof *v);
        return true;
    }
    int64_t whole;
    if (!element_int(g, e, i, &whole))
        return false;
    *v = (double)whole;
    return true;
}

bool pol_gguf_has(const pol_gguf *g, const char *key) { return find(g, key, false) || find(g, key, true); }

bool pol_gguf_str(const pol_gguf *g, const char *key, const char **s, size_t *n)
{
    const entry *e = find(g, key, false);
    return e && e->type == V_STRING && string_at(g, e->at, s, n);
}

bool pol_gguf_int(const pol_gguf *g, const char *key, int64_t *v)
{
    const entry *e = find(g, key, false);
    return e && element_int(g, e, 0, v);
}

bool pol_gguf_float(const pol_gguf *g, const char *key, double *v)
{
    const entry *e = find(g, key, false);
    return e && element_float(g, e, 0, v);
}

int64_t pol_gguf_array(const pol_gguf *g, const char *key)
{
    const entry *e = find(g, key, true);
    return e ? e->n : -1;
}

static const entry *find_element(const pol_gguf *g, const char *key, int64_t i)
{
    const entry *e = find(g, key, true);
    return e && i >= 0 && i < e->n ? e : NULL;
}

bool pol_gguf_array_str(const pol_gguf *g, const char *key, int64_t i, const char **s, size_t *n)
{
    const entry *e = find_element(g, key, i);
    return e && e->type == V_STRING && string_at(g, e->string_at[i], s, n);
}

bool pol_gguf_array_int(const pol_gguf *g, const char *key, int64_t i, int64_t *v)
{
    const entry *e = find_element(g, key, i);
    return e && element_int(g, e, i, v);
}

bool pol_gguf_array_float(const pol_gguf *g, const char *key, int64_t i, double *v)
{
    const entry *e = find_element(g, key, i);
    return e && element_float(g, e, i, v);
}

const pol_gguf_tensor *pol_gguf_tensor_at(const pol_gguf *g, int64_t i)
{
    return i >= 0 && i < g->n_tensors ? &g->tensors[i] : NULL;
}

static int name_order(const void *name, const void *t) { return strcmp(name, ((const pol_gguf_tensor *)t)->name); }

const pol_gguf_tensor *pol_gguf_tensor_find(const pol_gguf *g, const char *name)
{
    return g->n_tensors ? bsearch(name, g->tensors, (size_t)g->n_tensors, sizeof *g->tensors, name_order) : NULL;
}

const char *pol_gguf_name(const pol_gguf *g) { return g->name; }
const uint8_t *pol_gguf_data(const pol_gguf *g) { return g->data; }

void pol_gguf_release(const pol_gguf *g, uint64_t at, uint64_t n)
{
    if (g->map.data)
        pol_map_release(&g->map, (size_t)at, (size_t)n);
}

/* safetensors.c - headers checked once, then looked up. */
#include "core/model/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"

/* The format's own bound on a header, and generous ones on an index. */
enum { MAX_HEADER = 100000000, MAX_INDEX = 100000000, MAX_FILES = 4096 };

typedef struct data_file {
    char *name;
    pol_map map; /* zero where the memory is borrowed */
    const uint8_t *data;
    uint64_t size;
} data_file;

struct pol_safetensors {
    pol_context *ctx;
    data_file *files;
    int32_t n_files, cap_files;
    pol_safetensors_tensor *tensors; /* by name */
    int64_t n_tensors, cap_tensors;
    json_t *metadata; /* of the first file; NULL: none */
};

/* ---- one header ---- */

/* Makes room for `more` further tensors; the array is there even if it stays empty. */
static pol_status reserve_tensors(pol_safetensors *st, int64_t more)
{
    if (st->tensors && st->n_tensors + more <= st->cap_tensors)
        return POL_OK;
    const int64_t cap = pol_max_i64(2 * st->cap_tensors, st->n_tensors + more);
    pol_safetensors_tensor *p = pol_realloc(st->ctx, st->tensors, (size_t)cap * sizeof *p);
    if (!p)
        return POL_ENOMEM;
    st->tensors = p;
    st->cap_tensors = cap;
    return POL_OK;
}

/* A JSON integer that is not negative. */
static bool to_size(const json_t *v, uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

static pol_status read_shape(pol_context *ctx, const char *where, const json_t *record, pol_safetensors_tensor *t)
{
    json_t *shape;
    POL_TRY(pol_json_array(ctx, where, record, "shape", &shape));
    uint64_t bytes = (uint64_t)t->coding->bytes;
    const size_t n = json_array_size(shape);
    if (n > 64)
        return pol_fail(ctx, POL_EFORMAT, "%s: 'shape' has %zu dimensions", where, n);
    t->n_dims = (int32_t)n;
    for (size_t d = 0; d < n; d++) {
        uint64_t size;
        if (!to_size(json_array_get(shape, d), &size) || !pol_mul_u64(bytes, size, &bytes))
            return pol_fail(ctx, POL_EFORMAT, "%s: 'shape': dimension %zu is not a possible size", where, d);
        if (d < POL_COUNT(t->shape))
            t->shape[d] = (int64_t)size;
    }
    t->bytes = bytes;
    return POL_OK;
}

/* `data_bytes` is what follows the header. The tensor's place stays relative to that until the whole header is checked.
 */
static pol_status read_record(pol_context *ctx, const char *where, const json_t *record, uint64_t data_bytes,
                              pol_safetensors_tensor *t)
{
    if (!json_is_object(record))
        return pol_fail(ctx, POL_EFORMAT, "%s: not an object", where);
    const char *dtype = NULL;
    json_t *range;
    POL_TRY(pol_json_str(ctx, where, record, "dtype", &dtype));
    t->coding = pol_coding_of_safetensors(dtype);
    if (!t->coding)
        return pol_fail(ctx, POL_EUNSUPPORTED, "%s: 'dtype' is '%s', which is not handled", where, dtype);
    POL_TRY(read_shape(ctx, where, record, t));
    POL_TRY(pol_json_array(ctx, where, record, "data_offsets", &range));
    uint64_t begin, end;
    if (json_array_size(range) != 2 || !to_size(json_array_get(range, 0), &begin) ||
        !to_size(json_array_get(range, 1), &end) || begin > end)
        return pol_fail(ctx, POL_EFORMAT, "%s: 'data_offsets' is not a begin and an end", where);
    if (end > data_bytes)
        return pol_fail(ctx, POL_EFORMAT,
                        "%s: 'data_offsets' ends at %" PRIu64 ", but the file holds %" PRIu64 " bytes of data", where,
                        end, data_bytes);
    if (end - begin != t->bytes)
        return pol_fail(ctx, POL_EFORMAT,
                        "%s: 'data_offsets' spans %" PRIu64 " bytes, but shape and dtype need %" PRIu64, where,
                        end - begin, t->bytes);
    t->at = begin;
    return POL_OK;
}

static int by_place(const void *a, const void *b)
{
    const pol_safetensors_tensor *x = a, *y = b;
    if (x->at != y->at)
        return x->at > y->at ? 1 : -1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}

/* The ranges of one file's tensors must follow each other without overlap or gap and end with the data. */
static pol_status check_coverage(pol_context *ctx, const char *name, pol_safetensors_tensor *t, int64_t n,
                                 uint64_t data_bytes)
{
    qsort(t, (size_t)n, sizeof *t, by_place);
    uint64_t end = 0;
    for (int64_t i = 0; i < n; i++) {
        if (t[i].at < end)
            return pol_fail(ctx, POL_EFORMAT, "%s: tensors '%s' and '%s' overlap at data byte %" PRIu64, name,
                            t[i - 1].name, t[i].name, t[i].at);
        if (t[i].at > end)
            return pol_fail(ctx, POL_EFORMAT,
                            "%s: data bytes %" PRIu64 "..%" PRIu64 " before tensor '%s' belong to no tensor", name, end,
                            t[i].at, t[i].name);
        end = t[i].at + t[i].bytes;
    }
    if (end != data_bytes)
        return pol_fail(ctx, POL_EFORMAT, "%s: tensors end at data byte %" PRIu64 ", but the file holds %" PRIu64, name,
                        end, data_bytes);
    return POL_OK;
}

static pol_status read_records(pol_safetensors *st, int32_t file, const json_t *header, uint64_t data_at)
{
    const data_file *f = &st->files[file];
    const int64_t first = st->n_tensors;
    POL_TRY(reserve_tensors(st, (int64_t)json_object_size(header)));
    const char *key;
    json_t *record;
    json_object_foreach((json_t *)header, key, record)
    {
        if (!strcmp(key, "__metadata__"))
            continue;
        pol_safetensors_tensor *t = &st->tensors[st->n_tensors];
        *t = (pol_safetensors_tensor){.file = file, .name = pol_strdup(st->ctx, key)};
        if (!t->name)
            return POL_ENOMEM;
        st->n_tensors++;
        char *where = pol_format(st->ctx, "%s: tensor '%s'", f->name, key);
        if (!where)
            return POL_ENOMEM;
        const pol_status s = read_record(st->ctx, where, record, f->size - data_at, t);
        pol_free(st->ctx, where);
        POL_TRY(s);
    }
    POL_TRY(check_coverage(st->ctx, f->name, st->tensors + first, st->n_tensors - first, f->size - data_at));
    for (int64_t i = first; i < st->n_tensors; i++)
        st->tensors[i].at += data_at;
    return POL_OK;
}

static pol_status read_header(pol_safetensors *st, int32_t file)
{
    const data_file *f = &st->files[file];
    uint64_t n;
    if (f->size < sizeof n)
        return pol_fail(st->ctx, POL_EFORMAT, "%s: %" PRIu64 " bytes are no safetensors file", f->name, f->size);
    memcpy(&n, f->data, sizeof n);
    if (n > MAX_HEADER)
        return pol_fail(st->ctx, POL_EFORMAT, "%s: header length is %" PRIu64 ", more than the format's limit of %d",
                        f->name, n, MAX_HEADER);
    if (n > f->size - sizeof n)
        return pol_fail(st->ctx, POL_EFORMAT, "%s: header length is %" PRIu64 ", but the file has %" PRIu64 " bytes",
                        f->name, n, f->size);
    char *where = pol_format(st->ctx, "%s: header", f->name);
    if (!where)
        return POL_ENOMEM;
    json_t *header;
    pol_status s = pol_json_parse(st->ctx, where, f->data + sizeof n, (size_t)n, &header);
    pol_free(st->ctx, where);
    POL_TRY(s);
    s = json_is_object(header) ? read_records(st, file, header, sizeof n + n)
                               : pol_fail(st->ctx, POL_EFORMAT, "%s: header is not a JSON object", f->name);
    if (file == 0)
        st->metadata = json_incref(json_object_get(header, "__metadata__"));
    json_decref(header);
    return s;
}

/* ---- files ---- */

static pol_status new_files(pol_context *ctx, int32_t cap, pol_safetensors **out)
{
    pol_safetensors *st = pol_alloc_zero(ctx, sizeof *st);
    if (!st)
        return POL_ENOMEM;
    st->ctx = ctx;
    st->cap_files = cap;
    st->files = pol_alloc_zero(ctx, (size_t)cap * sizeof *st->files);
    if (!st->files) {
        pol_free(ctx, st);
        return POL_ENOMEM;
    }
    *out = st;
    return POL_OK;
}

static pol_status add_file(pol_safetensors *st, const char *path)
{
    data_file *f = &st->files[st->n_files];
    f->name = pol_strdup(st->ctx, path);
    if (!f->name)
        return POL_ENOMEM;
    st->n_files++;
    POL_TRY(pol_map_open(st->ctx, path, &f->map));
    f->data = f->map.data;
    f->size = f->map.size;
    return read_header(st, st->n_files - 1);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const pol_safetensors_tensor *)a)->name, ((const pol_safetensors_tensor *)b)->name);
}

/* Sorts for lookup; hands the object over or frees it. */
static pol_status finish(pol_safetensors *st, pol_status s, pol_safetensors **out)
{
    if (s == POL_OK && st->n_tensors)
        qsort(st->tensors, (size_t)st->n_tensors, sizeof *st->tensors, by_name);
    if (s < 0)
        pol_safetensors_close(st);
    else
        *out = st;
    return s;
}

pol_status pol_safetensors_parse(pol_context *ctx, const char *name, const void *data, size_t n, pol_safetensors **out)
{
    pol_safetensors *st;
    *out = NULL;
    POL_TRY(new_files(ctx, 1, &st));
    st->files[0] = (data_file){.name = pol_strdup(ctx, name), .data = data, .size = n};
    st->n_files = 1;
    return finish(st, st->files[0].name ? read_header(st, 0) : POL_ENOMEM, out);
}

pol_status pol_safetensors_open_file(pol_context *ctx, const char *path, pol_safetensors **out)
{
    pol_safetensors *st;
    *out = NULL;
    POL_TRY(new_files(ctx, 1, &st));
    return finish(st, add_file(st, path), out);
}

/* ---- shards ---- */

static int32_t find_file(const pol_safetensors *st, const char *name)
{
    for (int32_t i = 0; i < st->n_files; i++)
        if (!strcmp(pol_path_name(st->files[i].name), name))
            return i;
    return -1;
}

/* Opens every file that the index names. */
static pol_status open_shards(pol_safetensors *st, const char *dir, const char *index, json_t *map)
{
    const char *tensor;
    json_t *v;
    json_object_foreach(map, tensor, v)
    {
        const char *shard = json_string_value(v);
        /* The name must stay inside the folder. */
        if (!shard || !*shard || strchr(shard, '/') || !strcmp(shard, ".") || !strcmp(shard, ".."))
            return pol_fail(st->ctx, POL_EFORMAT, "%s: weight_map: '%s' is not mapped to a file name", index, tensor);
        if (find_file(st, shard) >= 0)
            continue;
        if (st->n_files == st->cap_files)
            return pol_fail(st->ctx, POL_EFORMAT, "%s: weight_map names more than %d files", index, MAX_FILES);
        char *path = pol_path_join(st->ctx, dir, shard);
        if (!path)
            return POL_ENOMEM;
        const pol_status s = add_file(st, path);
        pol_free(st->ctx, path);
        POL_TRY(s);
    }
    return POL_OK;
}

/* Every tensor in a shard is mapped to that shard, and as many tensors are there as the index names. */
static pol_status check_index(pol_safetensors *st, const char *index, json_t *map)
{
    for (int64_t i = 0; i < st->n_tensors; i++) {
        const pol_safetensors_tensor *t = &st->tensors[i];
        const char *file = st->files[t->file].name;
        const char *mapped = json_string_value(json_object_get(map, t->name));
        if (!mapped)
            return pol_fail(st->ctx, POL_EFORMAT, "%s: tensor '%s' is not in the index", file, t->name);
        if (strcmp(mapped, pol_path_name(file)))
            return pol_fail(st->ctx, POL_EFORMAT, "%s: tensor '%s' belongs to '%s' by the index", file, t->name,
                            mapped);
        /* Removed as found: what is left over at the end is missing, and a second copy fails above. */
        json_object_del(map, t->name);
    }
    const char *left = json_object_iter_key(json_object_iter(map));
    if (left)
        return pol_fail(st->ctx, POL_EFORMAT, "%s: weight_map: tensor '%s' is not in '%s'", index, left,
                        json_string_value(json_object_get(map, left)));
    return POL_OK;
}

static pol_status read_index(pol_safetensors *st, const char *dir, const char *index)
{
    json_t *j, *map;
    POL_TRY(pol_json_read(st->ctx, index, MAX_INDEX, &j));
    pol_status s = pol_json_object(st->ctx, index, j, "weight_map", &map);
    if (s == POL_OK)
        s = open_shards(st, dir, index, map);
    if (s == POL_OK)
        s = check_index(st, index, map);
    json_decref(j);
    return s;
}

pol_status pol_safetensors_open(pol_context *ctx, const char *dir, pol_safetensors **out)
{
    pol_safetensors *st;
    *out = NULL;
    POL_TRY(new_files(ctx, MAX_FILES, &st));
    char *single = pol_path_join(ctx, dir, "model.safetensors");
    char *index = single ? pol_path_join(ctx, dir, "model.safetensors.index.json") : NULL;
    pol_status s;
    if (!index)
        s = POL_ENOMEM;
    else if (pol_path_exists(single))
        s = add_file(st, single);
    else if (pol_path_exists(index))
        s = read_index(st, dir, index);
    else
        s = pol_fail(ctx, POL_EIO, "%s: neither model.safetensors nor model.safetensors.index.json is there", dir);
    pol_free(ctx, single);
    pol_free(ctx, index);
    return finish(st, s, out);
}

void pol_safetensors_close(pol_safetensors *st)
{
    if (!st)
        return;
    for (int64_t i = 0; i < st->n_tensors; i++)
        pol_free(st->ctx, st->tensors[i].name);
    pol_free(st->ctx, st->tensors);
    for (int32_t i = 0; i < st->n_files; i++) {
        pol_map_close(&st->files[i].map);
        pol_free(st->ctx, st->files[i].name);
    }
    json_decref(st->metadata);
    pol_free(st->ctx, st->files);
    pol_free(st->ctx, st);
}

/* ---- lookup ---- */

const pol_safetensors_tensor *pol_safetensors_at(const pol_safetensors *st, int64_t i)
{
    return i >= 0 && i < st->n_tensors ? &st->tensors[i] : NULL;
}

static int name_order(const void *name, const void *t)
{
    return strcmp(name, ((const pol_safetensors_tensor *)t)->name);
}

const pol_safetensors_tensor *pol_safetensors_find(const pol_safetensors *st, const char *name)
{
    return st->n_tensors ? bsearch(name, st->tensors, (size_t)st->n_tensors, sizeof *st->tensors, name_order) : NULL;
}

const char *pol_safetensors_metadata(const pol_safetensors *st, const char *key)
{
    return json_string_value(json_object_get(st->metadata, key));
}

const char *pol_safetensors_file_name(const pol_safetensors *st, int32_t file) { return st->files[file].name; }
const uint8_t *pol_safetensors_file_data(const pol_safetensors *st, int32_t file) { return st->files[file].data; }

void pol_safetensors_release(const pol_safetensors *st, int32_t file, uint64_t at, uint64_t n)
{
    if (st->files[file].map.data)
        pol_map_release(&st->files[file].map, (size_t)at, (size_t)n);
}

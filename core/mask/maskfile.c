/* maskfile.c - mask.json: what is kept and every probability, bit for bit. */
#include "core/mask/maskfile.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/mask/units.h"

static const char FORMAT[] = "pollard-mask";
enum { VERSION = 1 };

/* A layer's keys in the file, by kind. */
static const char *const KEY[POL_UNIT_KINDS] = {"heads", "channels", "attention_block", "mlp_block"};

/* ---- writing ---- */

/* Nine digits tell any two floats apart. The C library may print the locale's decimal comma; JSON wants a point. */
static pol_status write_probability(pol_bytes *out, float p)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", p);
    char *point = strchr(text, localeconv()->decimal_point[0]);
    if (point)
        *point = '.';
    return pol_bytes_add(out, text, strlen(text));
}

static pol_status write_contents(pol_bytes *out, const pol_section *sec, const uint8_t *mask, const float *s)
{
    POL_TRY(pol_bytes_printf(out, "   \"%s\": {\n    \"count\": %lld,\n    \"kept\": [", KEY[sec->kind],
                             (long long)sec->count));
    const char *separator = "";
    for (int64_t i = 0; i < sec->count; i++)
        if (mask[sec->first + i]) {
            POL_TRY(pol_bytes_printf(out, "%s%lld", separator, (long long)i));
            separator = ", ";
        }
    if (s) {
        POL_TRY(pol_bytes_printf(out, "],\n    \"probability\": ["));
        for (int64_t i = 0; i < sec->count; i++) {
            POL_TRY(pol_bytes_printf(out, "%s", i ? ", " : ""));
            POL_TRY(write_probability(out, s[sec->first + i]));
        }
    }
    return pol_bytes_printf(out, "]\n   },\n");
}

static pol_status write_block(pol_bytes *out, const pol_section *sec, const uint8_t *mask, const float *s)
{
    POL_TRY(pol_bytes_printf(out, "   \"%s\": {\"kept\": %s", KEY[sec->kind],
                             sec->count && mask[sec->first] ? "true" : "false"));
    if (s && sec->count) {
        POL_TRY(pol_bytes_printf(out, ", \"probability\": "));
        POL_TRY(write_probability(out, s[sec->first]));
    }
    return pol_bytes_printf(out, "}%s\n", sec->kind == POL_UNIT_MLP ? "" : ",");
}

pol_status pol_mask_to_text(pol_bytes *out, const pol_units *u, unsigned granularity, const uint8_t *mask,
                            const float *s)
{
    POL_TRY(pol_bytes_printf(out, "{\n \"format\": \"%s\",\n \"version\": %d,\n \"granularity\": [", FORMAT, VERSION));
    const char *separator = "";
    for (pol_unit_kind k = 0; k < POL_UNIT_KINDS; k++)
        if (pol_has_kind(granularity, k)) {
            POL_TRY(pol_bytes_printf(out, "%s\"%s\"", separator, pol_unit_kind_name(k)));
            separator = ", ";
        }
    POL_TRY(pol_bytes_printf(out, "],\n \"layers\": [\n"));
    for (int32_t l = 0; l < u->n_layers; l++) {
        POL_TRY(pol_bytes_printf(out, "  {\n"));
        for (pol_unit_kind k = 0; k < POL_UNIT_KINDS; k++) {
            const float *known = pol_has_kind(granularity, k) ? s : NULL; /* the others are 1 by definition */
            const pol_section *sec = pol_units_section(u, k, l);
            POL_TRY(pol_is_block(k) ? write_block(out, sec, mask, known) : write_contents(out, sec, mask, known));
        }
        POL_TRY(pol_bytes_printf(out, "  }%s\n", l + 1 < u->n_layers ? "," : ""));
    }
    return pol_bytes_printf(out, " ],\n \"params\": {\"dense\": %lld, \"kept\": %lld}\n}\n",
                            (long long)pol_mask_params(u, NULL), (long long)pol_mask_params(u, mask));
}

pol_status pol_mask_write(pol_context *ctx, const char *path, const pol_units *u, unsigned granularity,
                          const uint8_t *mask, const float *s)
{
    if (granularity == 0 || granularity >> POL_UNIT_KINDS)
        return pol_fail(ctx, POL_EARG, "%s: granularity %#x is not a set of unit kinds", path, granularity);
    for (int64_t i = 0; s && i < u->n; i++)
        if (!(s[i] >= 0 && s[i] <= 1))
            return pol_fail(ctx, POL_ENUMERIC, "%s: probability of unit %lld is %g", path, (long long)i, s[i]);
    pol_bytes text = {.ctx = ctx};
    pol_status status = pol_mask_to_text(&text, u, granularity, mask, s);
    if (status == POL_OK)
        status = pol_file_write(ctx, path, text.data, text.len);
    pol_bytes_free(&text);
    return status;
}

/* ---- reading ---- */

typedef struct reader {
    pol_context *ctx;
    const char *name;
    const pol_units *u;
    unsigned granularity;
    uint8_t *mask;
    float *s; /* may be NULL: then probabilities are checked only */
} reader;

static pol_status read_granularity(reader *r, const json_t *root)
{
    json_t *list;
    POL_TRY(pol_json_array(r->ctx, r->name, root, "granularity", &list));
    r->granularity = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        unsigned kind = 0;
        for (pol_unit_kind k = 0; name && k < POL_UNIT_KINDS; k++)
            if (strcmp(name, pol_unit_kind_name(k)) == 0)
                kind = 1u << k;
        if (kind == 0 || r->granularity & kind)
            return pol_fail(r->ctx, POL_EFORMAT, "%s: granularity[%zu] '%s' is no unit kind or comes twice", r->name, i,
                            name ? name : "(not a string)");
        r->granularity |= kind;
    }
    if (r->granularity == 0)
        return pol_fail(r->ctx, POL_EFORMAT, "%s: granularity is empty", r->name);
    return POL_OK;
}

static pol_status read_kept(reader *r, const char *where, const json_t *o, const pol_section *sec)
{
    json_t *list;
    POL_TRY(pol_json_array(r->ctx, where, o, "kept", &list));
    memset(r->mask + sec->first, 0, (size_t)sec->count);
    int64_t last = -1;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        const int64_t unit = json_integer_value(v); /* 0 where it is none */
        if (!json_is_integer(v))
            return pol_fail(r->ctx, POL_EFORMAT, "%s.kept[%zu] is not an integer", where, i);
        if (unit <= last || unit >= sec->count)
            return pol_fail(r->ctx, POL_EFORMAT, "%s.kept[%zu] is %lld: units rise within 0..%lld", where, i,
                            (long long)unit, (long long)sec->count - 1);
        r->mask[sec->first + unit] = 1;
        last = unit;
    }
    return POL_OK;
}

static pol_status take_probability(reader *r, const json_t *v, int64_t unit, const char *where, const char *index)
{
    const double p = json_number_value(v);
    if (!json_is_number(v) || !(p >= 0 && p <= 1))
        return pol_fail(r->ctx, POL_EFORMAT, "%s.probability%s is not a number in 0..1", where, index);
    if (r->s)
        r->s[unit] = (float)p;
    return POL_OK;
}

/* The key stands where the kind is of the granularity and the file has probabilities; else s is 1 by definition. */
static pol_status read_probability(reader *r, const char *where, const json_t *o, const pol_section *sec)
{
    const json_t *v = json_object_get(o, "probability");
    const bool learnt = pol_has_kind(r->granularity, sec->kind) && sec->count > 0;
    if (v && !pol_has_kind(r->granularity, sec->kind))
        return pol_fail(r->ctx, POL_EFORMAT, "%s.probability: %s are not of the granularity", where,
                        pol_unit_kind_name(sec->kind));
    if (!v && learnt && r->s)
        return pol_fail(r->ctx, POL_EFORMAT, "%s: 'probability' is missing", where);
    for (int64_t i = 0; r->s && i < sec->count; i++)
        r->s[sec->first + i] = 1;
    if (!v)
        return POL_OK;
    if (pol_is_block(sec->kind))
        return learnt ? take_probability(r, v, sec->first, where, "") : POL_OK;
    if (!json_is_array(v) || (int64_t)json_array_size(v) != sec->count)
        return pol_fail(r->ctx, POL_EFORMAT, "%s.probability is not a list of %lld numbers", where,
                        (long long)sec->count);
    for (int64_t i = 0; i < sec->count; i++) {
        char index[32];
        snprintf(index, sizeof index, "[%lld]", (long long)i);
        POL_TRY(take_probability(r, json_array_get(v, (size_t)i), sec->first + i, where, index));
    }
    return POL_OK;
}

static pol_status read_section(reader *r, const char *where, const json_t *layer, const pol_section *sec)
{
    json_t *o;
    POL_TRY(pol_json_object(r->ctx, where, layer, KEY[sec->kind], &o));
    char *path = pol_format(r->ctx, "%s.%s", where, KEY[sec->kind]);
    if (!path)
        return POL_ENOMEM;
    pol_status s = POL_OK;
    if (pol_is_block(sec->kind)) {
        const json_t *kept = json_object_get(o, "kept");
        if (!json_is_boolean(kept) || (json_is_true(kept) && sec->count == 0))
            s = pol_fail(r->ctx, POL_EFORMAT, "%s.kept is not %s", path,
                         sec->count ? "true or false" : "false: the model has no such block");
        else if (sec->count)
            r->mask[sec->first] = json_is_true(kept);
    } else {
        int64_t count;
        s = pol_json_int(r->ctx, path, o, "count", sec->count, sec->count, &count);
        if (s == POL_OK)
            s = read_kept(r, path, o, sec);
    }
    if (s == POL_OK)
        s = read_probability(r, path, o, sec);
    pol_free(r->ctx, path);
    return s;
}

static pol_status read_layer(reader *r, const json_t *layer, int32_t l)
{
    if (!json_is_object(layer))
        return pol_fail(r->ctx, POL_EFORMAT, "%s: layers[%d] is not an object", r->name, l);
    char *where = pol_format(r->ctx, "%s: layers[%d]", r->name, l);
    pol_status s = where ? POL_OK : POL_ENOMEM;
    for (pol_unit_kind k = 0; s == POL_OK && k < POL_UNIT_KINDS; k++)
        s = read_section(r, where, layer, pol_units_section(r->u, k, l));
    pol_free(r->ctx, where);
    return s;
}

/* The sums tell a mask of another model, and a list that was changed by hand, from one that fits. */
static pol_status check_params(const reader *r, const json_t *root)
{
    json_t *o;
    int64_t dense, kept;
    POL_TRY(pol_json_object(r->ctx, r->name, root, "params", &o));
    POL_TRY(pol_json_int(r->ctx, r->name, o, "dense", 0, INT64_MAX, &dense));
    POL_TRY(pol_json_int(r->ctx, r->name, o, "kept", 0, INT64_MAX, &kept));
    if (dense != pol_mask_params(r->u, NULL))
        return pol_fail(r->ctx, POL_EFORMAT, "%s: params.dense is %lld, but the model has %lld", r->name,
                        (long long)dense, (long long)pol_mask_params(r->u, NULL));
    if (kept != pol_mask_params(r->u, r->mask))
        return pol_fail(r->ctx, POL_EFORMAT, "%s: params.kept is %lld, but the lists keep %lld", r->name,
                        (long long)kept, (long long)pol_mask_params(r->u, r->mask));
    return POL_OK;
}

pol_status pol_mask_from_json(pol_context *ctx, const char *name, const json_t *root, const pol_units *u,
                              unsigned *granularity, uint8_t *mask, float *s)
{
    reader r = {.ctx = ctx, .name = name, .u = u, .mask = mask, .s = s};
    const char *format;
    int64_t version;
    json_t *layers;
    if (!json_is_object(root))
        return pol_fail(ctx, POL_EFORMAT, "%s: not an object", name);
    POL_TRY(pol_json_str(ctx, name, root, "format", &format));
    if (strcmp(format, FORMAT) != 0)
        return pol_fail(ctx, POL_EFORMAT, "%s: format is '%s', not '%s'", name, format, FORMAT);
    POL_TRY(pol_json_int(ctx, name, root, "version", 1, INT64_MAX, &version));
    if (version != VERSION)
        return pol_fail(ctx, POL_EUNSUPPORTED, "%s: version is %lld, this program reads %d", name, (long long)version,
                        VERSION);
    POL_TRY(read_granularity(&r, root));
    POL_TRY(pol_json_array(ctx, name, root, "layers", &layers));
    if ((int64_t)json_array_size(layers) != u->n_layers)
        return pol_fail(ctx, POL_EFORMAT, "%s: layers has %zu entries, but the model has %d layers", name,
                        json_array_size(layers), u->n_layers);
    for (int32_t l = 0; l < u->n_layers; l++)
        POL_TRY(read_layer(&r, json_array_get(layers, (size_t)l), l));
    POL_TRY(check_params(&r, root));
    *granularity = r.granularity;
    return POL_OK;
}

pol_status pol_mask_read(pol_context *ctx, const char *path, const pol_units *u, unsigned *granularity, uint8_t *mask,
                         float *s)
{
    /* Two numbers a unit, each on a line of its own at most; a file that is larger cannot be one of this model. */
    const size_t limit = ((size_t)1 << 20) + 128 * (size_t)u->n;
    json_t *root;
    POL_TRY(pol_json_read(ctx, path, limit, &root));
    pol_status status = pol_mask_from_json(ctx, path, root, u, granularity, mask, s);
    json_decref(root);
    return status;
}

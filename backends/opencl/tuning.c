/* tuning.c - sets of CLBlast's parameters, read and written. */
#include "backends/opencl/tuning.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"

const char *const ocl_tuned_names[OCL_TUNED] = {
    [OCL_XGEMM] = "Xgemm",
    [OCL_XGEMM_DIRECT] = "XgemmDirect",
    [OCL_COPY] = "Copy",
    [OCL_PAD] = "Pad",
    [OCL_TRANSPOSE] = "Transpose",
    [OCL_PADTRANSPOSE] = "Padtranspose",
    [OCL_GEMM_ROUTINE] = "GemmRoutine",
};

enum { FILE_VERSION = 1, FILE_MOST = 1 << 20, HASH_BYTES = 33 };
static const char FORMAT[] = "pollard-clblast";

bool ocl_same_parameters(const ocl_kernel_tuning *a, const ocl_kernel_tuning *b)
{
    bool same = a->n == b->n;
    for (int i = 0; i < a->n && same; i++)
        same = a->parameters[i].value == b->parameters[i].value &&
               strcmp(a->parameters[i].name, b->parameters[i].name) == 0;
    return same;
}

static bool good_name(const char *name, size_t n)
{
    bool good = n > 0 && n < OCL_PARAMETER_NAME;
    for (size_t i = 0; i < n && good; i++)
        good = (name[i] >= 'A' && name[i] <= 'Z') || (name[i] >= '0' && name[i] <= '9') || name[i] == '_';
    return good;
}

static pol_status add_parameter(pol_context *ctx, const char *where, const char *name, size_t n, int64_t value,
                                ocl_kernel_tuning *k)
{
    if (!good_name(name, n))
        return pol_fail(ctx, POL_EFORMAT, "%s: a parameter's name is not letters, digits and _", where);
    if (value < 0 || value > OCL_PARAMETER_MOST)
        return pol_fail(ctx, POL_EFORMAT, "%s: %.*s is %lld, outside 0..%d", where, (int)n, name, (long long)value,
                        OCL_PARAMETER_MOST);
    for (int i = 0; i < k->n; i++)
        if (strlen(k->parameters[i].name) == n && !memcmp(k->parameters[i].name, name, n))
            return pol_fail(ctx, POL_EFORMAT, "%s: %.*s stands there twice", where, (int)n, name);
    if (k->n == OCL_PARAMETERS)
        return pol_fail(ctx, POL_EFORMAT, "%s: more than %d parameters", where, OCL_PARAMETERS);
    ocl_parameter *p = &k->parameters[k->n++];
    memcpy(p->name, name, n);
    p->name[n] = 0;
    p->value = value;
    return POL_OK;
}

/* "KWG=32 MWG=64 PRECISION=32 ...": the precision is no parameter, but what they are for. */
static pol_status parse_pairs(pol_context *ctx, const char *where, const char *text, ocl_kernel_tuning *k)
{
    while (*(text += strspn(text, " "))) {
        const size_t n = strcspn(text, " ="), digits = text[n] == '=' ? strspn(text + n + 1, "0123456789") : 0;
        if (digits < 1 || digits > 9 || !strchr(" ", text[n + 1 + digits]))
            return pol_fail(ctx, POL_EFORMAT, "%s: '%.40s' is not NAME=NUMBER", where, text);
        const int64_t value = atol(text + n + 1);
        const bool precision = n == strlen("PRECISION") && !memcmp(text, "PRECISION", n);
        if (precision && value != 32)
            return pol_fail(ctx, POL_EFORMAT, "%s: of precision %lld, not 32", where, (long long)value);
        if (!precision)
            POL_TRY(add_parameter(ctx, where, text, n, value, k));
        text += n + 1 + digits;
    }
    return k->n ? POL_OK : pol_fail(ctx, POL_EFORMAT, "%s: no parameters", where);
}

pol_status ocl_tuner_result(pol_context *ctx, const char *name, const void *text, size_t n, ocl_kernel_tuning *out,
                            double *milliseconds)
{
    json_t *j;
    const char *pairs, *time;
    char *end;
    out->n = 0;
    *milliseconds = 0;
    POL_TRY(pol_json_parse(ctx, name, text, n, &j));
    pol_status s = pol_json_str(ctx, name, j, "best_time", &time);
    if (s == POL_OK) {
        *milliseconds = strtod(time, &end);
        if (end == time || *end || !(*milliseconds >= 0 && *milliseconds < 1e9))
            s = pol_fail(ctx, POL_EFORMAT, "%s: 'best_time' is '%.40s', not a time in milliseconds", name, time);
    }
    if (s == POL_OK)
        s = pol_json_str(ctx, name, j, "best_parameters", &pairs);
    if (s == POL_OK)
        s = parse_pairs(ctx, name, pairs, out);
    json_decref(j);
    return s;
}

static json_t *kernels_json(const ocl_tuning *t)
{
    json_t *kernels = json_object();
    for (int i = 0; i < OCL_TUNED; i++) {
        const ocl_kernel_tuning *k = &t->kernels[i];
        json_t *parameters = k->n ? json_object() : NULL;
        for (int p = 0; p < k->n; p++)
            json_object_set_new(parameters, k->parameters[p].name, json_integer(k->parameters[p].value));
        if (parameters)
            json_object_set_new(kernels, ocl_tuned_names[i], parameters);
    }
    return kernels;
}

static pol_status kernels_hash(pol_context *ctx, const json_t *kernels, char out[HASH_BYTES])
{
    char *text = json_dumps(kernels, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text)
        return pol_fail(ctx, POL_ENOMEM, "tuning: no memory");
    pol_bytes_hash(text, strlen(text), out);
    free(text);
    return POL_OK;
}

static pol_status parse_kernel(pol_context *ctx, const char *name, const json_t *j, ocl_kernel_tuning *out)
{
    const char *parameter;
    const json_t *value;
    if (!json_is_object(j))
        return pol_fail(ctx, POL_EFORMAT, "%s: a kernel's parameters are no object", name);
    json_object_foreach((json_t *)j, parameter, value)
    {
        if (!json_is_integer(value))
            return pol_fail(ctx, POL_EFORMAT, "%s: a parameter is no integer", name);
        POL_TRY(add_parameter(ctx, name, parameter, strlen(parameter), json_integer_value(value), out));
    }
    return out->n ? POL_OK : pol_fail(ctx, POL_EFORMAT, "%s: a kernel has no parameters", name);
}

static pol_status parse_kernels(pol_context *ctx, const char *name, const json_t *kernels, ocl_tuning *out)
{
    const char *kernel;
    const json_t *parameters;
    json_object_foreach((json_t *)kernels, kernel, parameters)
    {
        int i = 0;
        while (i < OCL_TUNED && strcmp(ocl_tuned_names[i], kernel))
            i++;
        if (i == OCL_TUNED)
            return pol_fail(ctx, POL_EFORMAT, "%s: '%.40s' is no kernel of a product", name, kernel);
        POL_TRY(parse_kernel(ctx, name, parameters, &out->kernels[i]));
    }
    return POL_OK;
}

static pol_status parse_kept(pol_context *ctx, const char *name, const json_t *j, const char *key, ocl_tuning *out)
{
    const char *format, *of, *hash;
    int64_t version;
    json_t *kernels;
    char right[HASH_BYTES];
    POL_TRY(pol_json_str(ctx, name, j, "format", &format));
    if (strcmp(format, FORMAT))
        return pol_fail(ctx, POL_EFORMAT, "%s: 'format' is '%.40s', not '%s'", name, format, FORMAT);
    POL_TRY(pol_json_int(ctx, name, j, "version", FILE_VERSION, FILE_VERSION, &version));
    POL_TRY(pol_json_str(ctx, name, j, "key", &of));
    if (strcmp(of, key))
        return pol_fail(ctx, POL_EFORMAT, "%s: made for another device, driver or CLBlast", name);
    POL_TRY(pol_json_object(ctx, name, j, "kernels", &kernels));
    POL_TRY(pol_json_str(ctx, name, j, "hash", &hash));
    POL_TRY(kernels_hash(ctx, kernels, right));
    if (strcmp(hash, right))
        return pol_fail(ctx, POL_EFORMAT, "%s: its parameters are not those that were written", name);
    return parse_kernels(ctx, name, kernels, out);
}

pol_status ocl_tuning_parse(pol_context *ctx, const char *name, const void *text, size_t n, const char *key,
                            ocl_tuning *out)
{
    json_t *j;
    *out = (ocl_tuning){0};
    POL_TRY(pol_json_parse(ctx, name, text, n, &j));
    const pol_status s = parse_kept(ctx, name, j, key, out);
    json_decref(j);
    return s;
}

pol_status ocl_tuning_read(pol_context *ctx, const char *path, const char *key, ocl_tuning *out, bool *there)
{
    pol_bytes text;
    *out = (ocl_tuning){0};
    *there = pol_path_exists(path);
    if (!*there)
        return POL_OK;
    POL_TRY(pol_file_read(ctx, path, FILE_MOST, &text));
    const pol_status s = ocl_tuning_parse(ctx, path, text.data ? text.data : "", text.len, key, out);
    pol_bytes_free(&text);
    return s;
}

pol_status ocl_tuning_write(pol_context *ctx, const char *path, const char *key, const ocl_tuning *t,
                            const ocl_tuning_facts *facts)
{
    char hash[HASH_BYTES];
    json_t *kernels = kernels_json(t);
    const pol_status s = kernels_hash(ctx, kernels, hash);
    if (s < 0) {
        json_decref(kernels);
        return s;
    }
    /* A driver may call its device what JSON cannot say. */
    json_t *device = json_string(facts->device);
    json_t *j = json_pack("{ss si ss so? ss sf sf sO ss}", "format", FORMAT, "version", FILE_VERSION, "key", key,
                          "device", device, "clblast", facts->clblast, "gflops_before", 1e-9 * facts->flops_before,
                          "gflops_after", 1e-9 * facts->flops_after, "kernels", kernels, "hash", hash);
    const pol_status written = j ? pol_json_write(ctx, path, j) : pol_fail(ctx, POL_ENOMEM, "%s: no memory", path);
    json_decref(j);
    json_decref(kernels);
    return written;
}

static int by_volume(const void *a, const void *b)
{
    const double x = ((const ocl_both_ways *)a)->volume, y = ((const ocl_both_ways *)b)->volume;
    return (x > y) - (x < y);
}

int64_t ocl_least_indirect(ocl_both_ways *w, int64_t n)
{
    enum { WELL_OUTSIDE = 64 };
    double cost = 0, least;
    int64_t cut = 0; /* products below it are direct */
    qsort(w, (size_t)n, sizeof *w, by_volume);
    for (int64_t i = 0; i < n; i++)
        cost += w[i].indirect;
    least = cost;
    for (int64_t i = 0; i < n; i++) {
        cost += w[i].direct - w[i].indirect;
        if (cost < least && (i + 1 == n || w[i + 1].volume > w[i].volume)) {
            least = cost;
            cut = i + 1;
        }
    }
    const double below = cut > 0 ? w[cut - 1].volume : w[0].volume / WELL_OUTSIDE;
    const double above = cut < n ? w[cut].volume : w[n - 1].volume * WELL_OUTSIDE;
    return (int64_t)fmin(ceil(cbrt(sqrt(below * above))), OCL_PARAMETER_MOST);
}

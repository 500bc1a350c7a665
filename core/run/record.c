/* record.c - the parts of run.json: inputs with their hashes, outcomes; and whether a new call agrees with a run. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model/source.h"
#include "core/run/run.h"

enum { JSON_LIMIT = 1 << 24 };

pol_status pol_input_json(pol_context *ctx, const char *path, const char *hash, json_t **out)
{
    char *real = realpath(path, NULL);
    *out = json_pack("{ss ss}", "path", real ? real : path, "hash", hash);
    free(real);
    return *out ? POL_OK : pol_fail(ctx, POL_EARG, "%s: a path that is not UTF-8 has no place in a run's record", path);
}

pol_status pol_file_json(pol_context *ctx, const char *path, json_t **out)
{
    char hash[33];
    POL_TRY(pol_file_hash(ctx, path, hash));
    return pol_input_json(ctx, path, hash, out);
}

static pol_status model_json(const pol_prune_settings *o, pol_inputs *in, json_t *run)
{
    const pol_config *c = pol_source_config(in->src);
    char hash[33];
    json_t *model;
    POL_TRY(pol_source_hash(in->src, hash));
    POL_TRY(pol_input_json(in->ctx, o->model, hash, &model));
    json_object_set_new(model, "family", json_string(c->family));
    json_object_set_new(model, "params", json_integer((json_int_t)pol_config_total_params(c)));
    json_object_set_new(model, "block_params", json_integer((json_int_t)pol_config_block_params(c)));
    json_object_set_new(run, "model", model);
    return POL_OK;
}

static pol_status data_json(const pol_prune_settings *o, pol_inputs *in, json_t *run)
{
    const pol_sequences *t = &in->text;
    json_t *files = json_array(), *file;
    json_object_set_new(run, "data",
                        json_pack("{so ss sI sI sI sI ss ss}", "files", files, "format",
                                  pol_text_format_name(t->format), "documents", (json_int_t)t->documents, "sequences",
                                  (json_int_t)t->n, "seq_len", (json_int_t)t->seq_len, "learnt_from",
                                  (json_int_t)in->n_learn, "bos", pol_bos_name(t->bos), "hash", t->hash));
    if (in->repair.n)
        json_object_set_new(json_object_get(run, "data"), "repaired_from", json_integer((json_int_t)in->repair.n));
    for (int64_t i = 0; i < o->n_data; i++) {
        POL_TRY(pol_file_json(in->ctx, o->data[i], &file));
        json_array_append_new(files, file);
    }
    return POL_OK;
}

pol_status pol_inputs_json(const pol_prune_settings *o, pol_inputs *in, json_t *run)
{
    json_t *part;
    POL_TRY(model_json(o, in, run));
    POL_TRY(data_json(o, in, run));
    if (in->init_mask) {
        POL_TRY(pol_file_json(in->ctx, in->init_mask, &part));
        json_object_set_new(run, "init", part);
    }
    if (o->objective.task_file) {
        POL_TRY(pol_file_json(in->ctx, o->objective.task_file, &part));
        json_object_set_new(run, "task", part);
    }
    if (o->eval_text) {
        POL_TRY(pol_file_json(in->ctx, o->eval_text, &part));
        json_object_set_new(part, "protocol", json_string(o->protocol->name));
        json_object_set_new(part, "chunks", json_integer((json_int_t)in->eval.n));
        json_object_set_new(run, "eval", part);
    }
    return POL_OK;
}

pol_status pol_run_json_read(pol_context *ctx, const char *path, json_t **out)
{
    const char *format;
    int64_t version;
    POL_TRY(pol_json_read(ctx, path, JSON_LIMIT, out));
    pol_status s = pol_json_str(ctx, path, *out, "format", &format);
    if (s == POL_OK && strcmp(format, "pollard-run"))
        s = pol_fail(ctx, POL_EFORMAT, "%s: 'format' is '%s', not 'pollard-run'", path, format);
    if (s == POL_OK)
        s = pol_json_int(ctx, path, *out, "version", 1, 1, &version);
    if (s < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return s;
}

static pol_status perplexity_read(pol_context *ctx, const char *where, const json_t *j, pol_perplexity *p)
{
    const char *protocol, *bos, *format;
    const double big = 1e300;
    POL_TRY(pol_json_num(ctx, where, j, "nll", -big, big, &p->nll));
    p->perplexity = exp(p->nll); /* null where that is too large a number */
    POL_TRY(pol_json_num_opt(ctx, where, j, "perplexity", 0, big, &p->perplexity));
    p->standard_error = NAN; /* null for a single chunk */
    POL_TRY(pol_json_num_opt(ctx, where, j, "standard_error", 0, big, &p->standard_error));
    POL_TRY(pol_json_int(ctx, where, j, "tokens", 0, INT64_MAX, &p->tokens));
    POL_TRY(pol_json_int(ctx, where, j, "chunks", 0, INT64_MAX, &p->chunks));
    POL_TRY(pol_json_int(ctx, where, j, "bad_chunks", 0, INT64_MAX, &p->bad_chunks));
    POL_TRY(pol_json_int(ctx, where, j, "seq_len", 0, INT64_MAX, &p->seq_len));
    POL_TRY(pol_json_str(ctx, where, j, "protocol", &protocol));
    POL_TRY(pol_json_str(ctx, where, j, "bos", &bos));
    POL_TRY(pol_json_str(ctx, where, j, "text_format", &format));
    if (strlen(protocol) >= sizeof p->protocol)
        return pol_fail(ctx, POL_EFORMAT, "%s: protocol '%s' is too long a name", where, protocol);
    strcpy(p->protocol, protocol);
    for (int b = POL_BOS_DOCUMENT; b <= POL_BOS_BOTH; b++)
        if (!strcmp(bos, pol_bos_name((pol_bos)b)))
            p->bos = (pol_bos)b;
    for (int f = POL_TEXT_PLAIN; f <= POL_TEXT_WIKITEXT; f++)
        if (!strcmp(format, pol_text_format_name((pol_text_format)f)))
            p->format = (pol_text_format)f;
    return POL_OK;
}

/* The number of `name` in a list that a NULL ends. */
static pol_status find_name(pol_context *ctx, const char *where, const char *field, const char *name,
                            const char *const *names, int *out)
{
    for (*out = 0; names[*out]; ++*out)
        if (!strcmp(names[*out], name))
            return POL_OK;
    return pol_fail(ctx, POL_EFORMAT, "%s: repair.%s: '%s' is unknown", where, field, name);
}

pol_status pol_repair_outcome_read(pol_context *ctx, const char *where, const json_t *j, pol_repair_outcome *x)
{
    const char *kind, *target = NULL;
    json_t *tried;
    int number;
    memset(x, 0, sizeof *x);
    x->masked = NAN;
    for (int t = 0; t < POL_REPAIR_TARGETS; t++)
        x->held_out[t] = NAN;
    if (!json_is_object(j))
        return POL_OK;
    x->known = true;
    POL_TRY(pol_json_str(ctx, where, j, "kind", &kind));
    POL_TRY(find_name(ctx, where, "kind", kind, pol_repair_names, &number));
    x->kind = (pol_repair_kind)number;
    POL_TRY(pol_json_str_opt(ctx, where, j, "target", &target));
    if (target) {
        POL_TRY(find_name(ctx, where, "target", target, pol_repair_target_names, &number));
        x->target = (pol_repair_target)number;
    }
    POL_TRY(pol_json_num_opt(ctx, where, j, "masked_held_out_nll", -1e300, 1e300, &x->masked));
    POL_TRY(pol_json_object(ctx, where, j, "held_out_nll", &tried));
    x->tried = json_object_get(tried, "bias") ? POL_REPAIR_BIAS : POL_REPAIR_RIDGE;
    POL_TRY(pol_json_num_opt(ctx, where, tried, "bias", -1e300, 1e300, &x->held_out[0]));
    for (int t = 0; t < POL_REPAIR_TARGETS; t++)
        POL_TRY(pol_json_num_opt(ctx, where, tried, pol_repair_target_names[t], -1e300, 1e300, &x->held_out[t]));
    POL_TRY(pol_json_int(ctx, where, j, "sequences", 0, INT64_MAX, &x->sequences));
    POL_TRY(pol_json_int(ctx, where, j, "passes", 0, INT64_MAX, &x->passes));
    return pol_json_num(ctx, where, j, "seconds", 0, 1e300, &x->seconds);
}

pol_status pol_outcome_read(pol_context *ctx, const char *where, const json_t *j, pol_outcome *x)
{
    memset(x, 0, sizeof *x);
    x->held_out = NAN;
    if (!json_is_object(j))
        return POL_OK;
    x->known = true;
    POL_TRY(pol_json_int(ctx, where, j, "params", 0, INT64_MAX, &x->params));
    POL_TRY(pol_json_int(ctx, where, j, "block_params", 0, INT64_MAX, &x->block_params));
    POL_TRY(pol_json_int(ctx, where, j, "macs", 0, INT64_MAX, &x->macs));
    POL_TRY(pol_json_num_opt(ctx, where, j, "held_out_nll", -1e300, 1e300, &x->held_out));
    const json_t *p = json_object_get(j, "perplexity");
    return p ? perplexity_read(ctx, where, p, &x->perplexity) : POL_OK;
}

/* What a resumed run must find as it was. Another setting is wrong usage, another input unusable. */
typedef struct comparison {
    pol_context *ctx;
    const char *path; /* of run.json */
    pol_status code;
} comparison;

/* Numbers are equal where the record would hold the same digits of them. */
static bool same_value(const json_t *was, const json_t *is)
{
    char a[32], b[32];
    if (!json_is_real(was) || !json_is_real(is))
        return json_equal(was, is);
    snprintf(a, sizeof a, "%.15g", json_real_value(was));
    snprintf(b, sizeof b, "%.15g", json_real_value(is));
    return !strcmp(a, b);
}

static pol_status differs(const comparison *c, const char *name, const json_t *was, const json_t *is)
{
    const size_t flags = JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9);
    char *a = was ? json_dumps(was, flags) : NULL, *b = is ? json_dumps(is, flags) : NULL;
    pol_fail(c->ctx, c->code, "%s: %s was %s and is %s in this call; a resumed run keeps what it was started with",
             c->path, name, a ? a : "absent", b ? b : "absent");
    free(a);
    free(b);
    return c->code;
}

/* A file may have moved: its hash counts, not its path. */
static bool is_place(const char *key) { return !strcmp(key, "path") || !strcmp(key, "files"); }

/* Objects are compared key by key, so that the one value that differs is named. */
static pol_status same(const comparison *c, const char *name, json_t *was, json_t *is)
{
    if (!json_is_object(was) || !json_is_object(is))
        return same_value(was, is) ? POL_OK : differs(c, name, was, is);
    json_t *both = json_object(), *unused; /* the keys of either */
    if (!both || json_object_update(both, is) < 0 || json_object_update(both, was) < 0) {
        json_decref(both);
        return pol_fail(c->ctx, POL_ENOMEM, "no memory to compare %s", name);
    }
    const char *key;
    pol_status s = POL_OK;
    json_object_foreach(both, key, unused)
    {
        if (is_place(key))
            continue;
        char *inner = pol_format(c->ctx, "%s.%s", name, key);
        s = inner ? same(c, inner, json_object_get(was, key), json_object_get(is, key)) : POL_ENOMEM;
        pol_free(c->ctx, inner);
        if (s < 0)
            break;
    }
    json_decref(both);
    return s;
}

pol_status pol_run_json_matches(pol_context *ctx, const char *path, const json_t *run, const json_t *now)
{
    static const struct {
        const char *name;
        pol_status code;
    } parts[] = {{"settings", POL_EARG}, {"model", POL_EFORMAT}, {"data", POL_EFORMAT},
                 {"init", POL_EFORMAT},  {"task", POL_EFORMAT},  {"eval", POL_EFORMAT}};
    for (size_t i = 0; i < POL_COUNT(parts); i++) {
        const comparison c = {ctx, path, parts[i].code};
        json_t *was = json_object_get(run, parts[i].name), *is = json_object_get(now, parts[i].name);
        if (!was != !is)
            return pol_fail(ctx, POL_EARG,
                            "%s: the run was started %s '%s'; a resumed run keeps what it was started with", path,
                            was ? "with" : "without", parts[i].name);
        if (was)
            POL_TRY(same(&c, parts[i].name, was, is));
    }
    return POL_OK;
}

/* record.c - the parts of run.json: inputs with their hashes, outcomes; and comparing a run's with a new call's. */
#include <math.h>
#include <string.h>
#include <stdlib.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model/source.h"
#include "core/run/run.h"

/* The absolute form of a path, so that a run can be used from any folder. */
static json_t *absolute(const char *path)
{
    char *real = realpath(path, NULL);
    json_t *j = json_string(real ? real : path);
    free(real);
    return j ? j : json_null(); /* a name that is not UTF-8 */
}

pol_status pol_inputs_json(const pol_prune_settings *o, pol_inputs *in, json_t *run)
{
    const pol_config *c = pol_source_config(in->src);
    char hash[33];
    POL_TRY(pol_source_hash(in->src, hash));
    json_object_set_new(run, "model", json_pack("{so ss ss sI sI}", "path", absolute(o->model), "hash", hash, "family", c->family, "params",
                                                (json_int_t)pol_config_total_params(c), "block_params",
                                                (json_int_t)pol_config_block_params(c)));
    json_t *files = json_array();
    for (int64_t i = 0; i < o->n_data; i++) {
        pol_status s = pol_file_hash(in->ctx, o->data[i], hash);
        if (s < 0) {
            json_decref(files);
            return s;
        }
        json_array_append_new(files, json_pack("{so ss}", "path", absolute(o->data[i]), "hash", hash));
    }
    json_object_set_new(run, "data", json_pack("{so ss sI sI sI sI ss ss}", "files", files, "format", pol_text_format_name(in->text.format),
                                               "documents", (json_int_t)in->text.documents, "sequences", (json_int_t)in->text.n, "seq_len",
                                               (json_int_t)in->text.seq_len, "learnt_from", (json_int_t)in->n_learn, "bos",
                                               pol_bos_name(in->text.bos), "hash", in->text.hash));
    if (o->eval_text) {
        POL_TRY(pol_file_hash(in->ctx, o->eval_text, hash));
        json_object_set_new(run, "eval", json_pack("{so ss ss sI}", "path", absolute(o->eval_text), "hash", hash, "protocol", o->protocol->name,
                                                   "chunks", (json_int_t)in->eval.n));
    }
    return POL_OK;
}

static pol_status perplexity_read(pol_context *ctx, const char *where, const json_t *j, pol_perplexity *p)
{
    const char *protocol, *bos, *format;
    const double big = 1e300;
    POL_TRY(pol_json_num(ctx, where, j, "perplexity", 0, big, &p->perplexity));
    POL_TRY(pol_json_num(ctx, where, j, "nll", -big, big, &p->nll));
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

static pol_status differs(pol_context *ctx, const char *path, const char *part, const char *key, const json_t *was, const json_t *now)
{
    char *a = was ? json_dumps(was, JSON_ENCODE_ANY | JSON_COMPACT) : NULL, *b = now ? json_dumps(now, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    pol_status s = pol_fail(ctx, POL_EARG, "%s: %s.%s was %s, this call has %s; a resumed run keeps what it was started with", path, part, key,
                            a ? a : "absent", b ? b : "absent");
    free(a);
    free(b);
    return s;
}

pol_status pol_run_json_matches(pol_context *ctx, const char *path, const json_t *run, const json_t *now)
{
    /* A file may have moved: its hash counts, not its path. */
    static const char *const parts[] = {"settings", "model", "data", "eval"};
    for (size_t i = 0; i < POL_COUNT(parts); i++) {
        const json_t *a = json_object_get(run, parts[i]), *b = json_object_get(now, parts[i]);
        if (!a != !b)
            return pol_fail(ctx, POL_EARG, "%s: the run was started %s '%s'; a resumed run keeps what it was started with", path,
                            a ? "with" : "without", parts[i]);
        const char *key;
        json_t *v;
        json_object_foreach((json_t *)b, key, v)
            if (strcmp(key, "path") && strcmp(key, "files") && !json_equal(json_object_get(a, key), v))
                return differs(ctx, path, parts[i], key, json_object_get(a, key), v);
    }
    return POL_OK;
}

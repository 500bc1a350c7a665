/* mend_record.c - the repair in run.json: settings and inputs with their hashes, then results. */
#include <string.h>
#include <time.h>

#include "core/backend.h"
#include "core/base/json.h"
#include "core/model/source.h"
#include "core/run/mend_job.h"

/* A run that is made of a mask has no settings of learning, and nothing else that a prune records. */
static pol_status new_run(pol_mending *w)
{
    char date[32], hash[33];
    const time_t now = time(NULL);
    struct tm utc;
    json_t *model;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    POL_TRY(pol_source_hash(w->target.src, hash));
    POL_TRY(pol_input_json(w->ctx, w->o.model, hash, &model));
    w->json = json_pack("{ss si ss ss ss so}", "format", "pollard-run", "version", 1, "pollard", pol_version(),
                        "started", date, "status", "done", "model", model);
    return w->json ? POL_OK : pol_fail(w->ctx, POL_ENOMEM, "no memory for the record of the run");
}

static pol_status data_json(const pol_mending *w, json_t **out)
{
    const pol_sequences *t = &w->text;
    json_t *files = json_array(), *file;
    *out = json_pack("{so ss sI sI sI ss ss}", "files", files, "format", pol_text_format_name(t->format), "sequences",
                     (json_int_t)w->looked_at, "held_out", (json_int_t)(t->n - w->looked_at), "seq_len",
                     (json_int_t)t->seq_len, "bos", pol_bos_name(t->bos), "hash", t->hash);
    for (int64_t i = 0; i < w->o.n_data; i++) {
        POL_TRY(pol_file_json(w->ctx, w->o.data[i], &file));
        json_array_append_new(files, file);
    }
    return POL_OK;
}

pol_status pol_mending_record(pol_mending *w)
{
    json_t *part;
    if (w->o.mask)
        POL_TRY(new_run(w));
    else
        POL_TRY(pol_run_json_read(w->ctx, w->folder.json, &w->json));
    const pol_device_info *d = pol_backend_info(w->devices[0]);
    json_t *repair = json_pack("{so so}", "settings", pol_repair_settings_json(&w->o.repair), "device",
                               json_pack("{ss ss ss ss}", "backend", d->backend, "name", d->name, "detail", d->detail,
                                         "weights", pol_backend_weights(w->devices[0])));
    json_object_set_new(w->json, "repair", repair);
    if (w->o.mask) {
        POL_TRY(pol_file_json(w->ctx, w->o.mask, &part));
        json_object_set_new(repair, "mask", part);
    }
    POL_TRY(data_json(w, &part));
    json_object_set_new(repair, "data", part);
    if (w->o.eval_text) {
        POL_TRY(pol_file_json(w->ctx, w->o.eval_text, &part));
        json_object_set_new(part, "protocol", json_string(w->o.protocol->name));
        json_object_set_new(part, "chunks", json_integer((json_int_t)w->eval.n));
        json_object_set_new(repair, "eval", part);
    }
    return POL_OK;
}

pol_status pol_mending_write(pol_mending *w, const char *status)
{
    const pol_repair_result *r = w->result;
    json_t *repair = json_object_get(w->json, "repair");
    json_object_set_new(repair, "status", json_string(status));
    json_t *results = r->repair.known ? pol_repair_outcome_json(&r->repair) : json_object();
    const struct {
        const char *name;
        const pol_outcome *x;
    } rows[] = {{"dense", &r->dense}, {"masked", &r->masked}, {"repaired", &r->repaired}};
    for (size_t i = 0; i < POL_COUNT(rows); i++)
        if (rows[i].x->known)
            json_object_set_new(results, rows[i].name, pol_outcome_json(rows[i].x));
    json_object_set_new(results, "forward_sequences", pol_sequences_json(r->sequences));
    json_object_set_new(results, "seconds", json_real(r->seconds));
    json_object_set_new(results, "peak_memory_bytes", json_integer((json_int_t)r->peak_bytes));
    json_object_set_new(results, "peak_device_bytes", json_integer((json_int_t)r->peak_device_bytes));
    json_object_set_new(repair, "results", results);
    return pol_json_write(w->ctx, w->folder.json, w->json);
}

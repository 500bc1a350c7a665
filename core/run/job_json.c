/* job_json.c - run.json as a run goes on. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "core/backend.h"
#include "core/base/json.h"
#include "core/run/job.h"

/* What the run is on; of several devices `detail` is the first one's. */
static json_t *devices_json(const pol_inputs *in)
{
    const pol_device_info *d = pol_backend_info(in->devices[0]);
    json_t *names = json_array();
    bool streamed = false;
    for (int64_t i = 0; i < in->n_devices; i++) {
        json_array_append_new(names, json_string(pol_backend_info(in->devices[i])->name));
        streamed |= in->memory[i].placement.streamed;
    }
    return json_pack("{ss ss ss ss sb sI so}", "backend", d->backend, "name", d->name, "detail", d->detail, "weights",
                     pol_backend_weights(in->devices[0]), "streamed", (int)streamed, "count", (json_int_t)in->n_devices,
                     "names", names);
}

pol_status pol_job_new_json(pol_job *r, const json_t *old)
{
    char date[32];
    const time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    r->json =
        json_pack("{ss si ss ss ss so so}", "format", "pollard-run", "version", 1, "pollard", pol_version(), "started",
                  date, "status", "running", "settings", pol_settings_json(&r->o), "device", devices_json(&r->in));
    if (!r->json)
        return pol_fail(r->ctx, POL_EARG, "%s: the settings cannot be recorded: one of them is not UTF-8",
                        r->folder.json);
    if (r->o.method == POL_METHOD_ALLOCATION)
        json_object_set_new(json_object_get(json_object_get(r->json, "settings"), "allocation"), "learnt_in",
                            json_string(pol_inputs_have_database(&r->o, &r->in) ? "repaired" : "masked"));
    if (old)
        json_object_set(r->json, "started", json_object_get(old, "started"));
    return pol_inputs_json(&r->o, &r->in, r->json);
}

static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static json_t *stages_json(const pol_job *r)
{
    json_t *stages = json_object();
    for (pol_stage_kind i = 0; r->begun && i < POL_STAGES; i++) {
        if (!r->o.stage_steps[i] || r->ck.stage <= (int64_t)i)
            continue;
        const pol_stage_result x = pol_job_stage_result(r, i);
        json_object_set_new(stages, pol_stage_names[i],
                            json_pack("{sI sI so so}", "steps", (json_int_t)x.steps, "chosen_step",
                                      (json_int_t)x.chosen_step, "before", number(x.before), "after", number(x.after)));
    }
    return stages;
}

static json_t *results_json(const pol_job *r)
{
    json_t *results = json_object();
    const struct {
        const char *name;
        const pol_outcome *x;
    } rows[] = {{"dense", &r->result->dense},
                {"initial", &r->result->initial},
                {"learnt", &r->result->learnt},
                {"repaired", &r->result->repaired}};
    for (size_t i = 0; i < POL_COUNT(rows); i++)
        if (rows[i].x->known)
            json_object_set_new(results, rows[i].name, pol_outcome_json(rows[i].x));
    if (r->result->learnt.known)
        json_object_set_new(results, "budget", pol_cost_report_json(&r->result->budget));
    json_object_set_new(results, "stages", stages_json(r));
    if (r->result->repair.known)
        json_object_set_new(results, "repair", pol_repair_outcome_json(&r->result->repair));
    json_object_set_new(results, "forward_sequences", pol_sequences_json(r->sequences));
    json_object_set_new(results, "chosen_step", json_integer(r->result->chosen_step));
    json_object_set_new(results, "seconds", json_real(pol_seconds() - r->started));
    json_object_set_new(results, "peak_memory_bytes", json_integer((json_int_t)pol_memory_peak()));
    json_object_set_new(results, "peak_device_bytes", json_integer((json_int_t)pol_job_peak_device_bytes(r)));
    return results;
}

pol_status pol_job_write_json(pol_job *r, const char *status)
{
    json_object_set_new(r->json, "status", json_string(status));
    json_object_set_new(r->json, "results", results_json(r));
    return pol_json_write(r->ctx, r->folder.json, r->json);
}

static pol_status read_budget(pol_context *ctx, const char *where, const json_t *j, pol_cost_report *out)
{
    const double most = 1e300;
    const char *name;
    bool known = false;
    *out = (pol_cost_report){.asked = NAN};
    if (!json_is_object(j))
        return POL_OK;
    POL_TRY(pol_json_str(ctx, where, j, "quantity", &name));
    for (int q = 0; pol_quantity_names[q] && !known; q++) {
        out->quantity = (pol_quantity)q;
        known = !strcmp(name, pol_quantity_names[q]);
    }
    if (!known)
        return pol_fail(ctx, POL_EFORMAT, "%s: budget: '%s' is no quantity", where, name);
    POL_TRY(pol_json_num_opt(ctx, where, j, "asked", 0, most, &out->asked));
    POL_TRY(pol_json_num(ctx, where, j, "achieved", 0, most, &out->achieved));
    POL_TRY(pol_json_num(ctx, where, j, "dense", 0, most, &out->dense));
    POL_TRY(pol_json_num(ctx, where, j, "share", 0, 1, &out->share));
    POL_TRY(pol_json_num(ctx, where, j, "share_with_embeddings", 0, 1, &out->share_with_embeddings));
    return pol_json_bool_opt(ctx, where, j, "embeddings", &out->embeddings);
}

static pol_status read_stages(pol_job *r, const json_t *stages)
{
    const char *where = r->folder.json;
    for (int i = 0; i < POL_STAGES; i++) {
        const json_t *j = json_object_get(stages, pol_stage_names[i]);
        pol_stage_result *x = &r->result->stages[i];
        *x = (pol_stage_result){.before = NAN, .after = NAN};
        if (!json_is_object(j))
            continue;
        POL_TRY(pol_json_int(r->ctx, where, j, "steps", 0, INT64_MAX, &x->steps));
        POL_TRY(pol_json_int(r->ctx, where, j, "chosen_step", 0, INT64_MAX, &x->chosen_step));
        POL_TRY(pol_json_num_opt(r->ctx, where, j, "before", -1e300, 1e300, &x->before));
        POL_TRY(pol_json_num_opt(r->ctx, where, j, "after", -1e300, 1e300, &x->after));
    }
    return POL_OK;
}

pol_status pol_job_read_results(pol_job *r, const json_t *old)
{
    json_t *results, *used;
    int64_t peak, peak_device;
    const char *where = r->folder.json;
    POL_TRY(pol_json_object(r->ctx, where, old, "results", &results));
    POL_TRY(pol_outcome_read(r->ctx, where, json_object_get(results, "dense"), &r->result->dense));
    POL_TRY(pol_outcome_read(r->ctx, where, json_object_get(results, "initial"), &r->result->initial));
    POL_TRY(pol_outcome_read(r->ctx, where, json_object_get(results, "learnt"), &r->result->learnt));
    POL_TRY(read_budget(r->ctx, where, json_object_get(results, "budget"), &r->result->budget));
    POL_TRY(pol_outcome_read(r->ctx, where, json_object_get(results, "repaired"), &r->result->repaired));
    POL_TRY(read_stages(r, json_object_get(results, "stages")));
    POL_TRY(pol_repair_outcome_read(r->ctx, where, json_object_get(results, "repair"), &r->result->repair));
    POL_TRY(pol_json_object(r->ctx, where, results, "forward_sequences", &used));
    for (int p = 0; p < POL_PURPOSES; p++)
        POL_TRY(pol_json_int(r->ctx, where, used, pol_purpose_names[p], 0, INT64_MAX, &r->result->sequences[p]));
    POL_TRY(pol_json_int(r->ctx, where, results, "chosen_step", 0, INT64_MAX, &r->result->chosen_step));
    POL_TRY(pol_json_num(r->ctx, where, results, "seconds", 0, 1e300, &r->result->seconds));
    POL_TRY(pol_json_int(r->ctx, where, results, "peak_memory_bytes", 0, INT64_MAX, &peak));
    POL_TRY(pol_json_int(r->ctx, where, results, "peak_device_bytes", 0, INT64_MAX, &peak_device));
    r->result->peak_bytes = (uint64_t)peak;
    r->result->peak_device_bytes = (uint64_t)peak_device;
    return POL_OK;
}

static const char *word(const json_t *device, const char *key)
{
    const char *text = json_string_value(json_object_get(device, key));
    return text ? text : "?";
}

/* Whether every device of `device` is called `name`. */
static bool all_called(const json_t *device, const char *name)
{
    size_t i;
    json_t *other;
    json_array_foreach(json_object_get(device, "names"), i, other)
    {
        const char *text = json_string_value(other);
        if (!text || strcmp(text, name) != 0)
            return false;
    }
    return !strcmp(word(device, "name"), name);
}

/* Whether numbers go on as before: each pass is computed by a device of the kind that would have computed it. */
static bool same_kind(const json_t *was, const json_t *is)
{
    if (strcmp(word(was, "backend"), word(is, "backend")) || strcmp(word(was, "weights"), word(is, "weights")))
        return false;
    const char *name = word(is, "name");
    return (all_called(was, name) && all_called(is, name)) ||
           json_equal(json_object_get(was, "names"), json_object_get(is, "names"));
}

/* "BACKEND (NAME, NAME, ...". */
static pol_status name_devices(const json_t *device, pol_bytes *out)
{
    size_t i;
    json_t *name, *names = json_object_get(device, "names");
    POL_TRY(pol_bytes_printf(out, "%s (%s", word(device, "backend"), word(device, "name")));
    json_array_foreach(names, i, name) if (i)
        POL_TRY(pol_bytes_printf(out, ", %s", json_is_string(name) ? json_string_value(name) : "?"));
    return POL_OK;
}

static pol_status warn_of_others(pol_job *r, const json_t *was, const json_t *is)
{
    pol_bytes before = {.ctx = r->ctx}, now = {.ctx = r->ctx};
    pol_status s = name_devices(was, &before);
    if (s == POL_OK)
        s = name_devices(is, &now);
    if (s == POL_OK)
        pol_log(r->ctx, POL_LOG_WARN,
                "the run goes on with %s, weights in %s), so far it was with %s, %s): numbers round differently",
                now.data, word(is, "weights"), before.data, word(was, "weights"));
    pol_bytes_free(&before);
    pol_bytes_free(&now);
    return s;
}

pol_status pol_job_note_devices(pol_job *r, const json_t *old)
{
    const json_t *was = json_object_get(old, "device"), *is = json_object_get(r->json, "device");
    json_t *earlier = json_object_get(old, "earlier_devices");
    if (json_is_array(earlier))
        json_object_set(r->json, "earlier_devices", earlier);
    if (same_kind(was, is))
        return POL_OK;
    earlier = json_is_array(earlier) ? json_deep_copy(earlier) : json_array();
    json_array_append_new(earlier, json_deep_copy(was));
    json_object_set_new(r->json, "earlier_devices", earlier);
    return warn_of_others(r, was, is);
}

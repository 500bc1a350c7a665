/* target.c - a model named on a command line: a plain one, or a run whose mask applies to its model. */
#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model/source.h"
#include "core/repair/repair.h"
#include "core/run/run.h"

static bool is_run(pol_context *ctx, const char *path)
{
    char *file = pol_path_is_dir(path) ? pol_path_join(ctx, path, POL_RUN_JSON) : NULL;
    const bool yes = file && pol_path_exists(file);
    pol_free(ctx, file);
    return yes;
}

/* The source of a run: the very model that the run was made from, where it was or, not NULL, `moved` to. */
static pol_status open_model_of(pol_context *ctx, const char *file, const char *moved, pol_source **src)
{
    json_t *run, *model;
    const char *path, *hash;
    POL_TRY(pol_run_json_read(ctx, file, &run));
    pol_status s = pol_json_object(ctx, file, run, "model", &model);
    if (s == POL_OK)
        s = pol_json_str(ctx, file, model, "path", &path);
    if (s == POL_OK)
        s = pol_json_str(ctx, file, model, "hash", &hash);
    if (s == POL_OK && moved)
        path = moved;
    else if (s == POL_OK && !pol_path_exists(path))
        s = pol_fail(ctx, POL_EIO, "%s: the run's model %s is not there any more; --model PATH says where it is now",
                     file, path);
    if (s == POL_OK)
        s = pol_source_open(ctx, path, src);
    char now[33];
    if (s == POL_OK)
        s = pol_source_hash(*src, now);
    if (s == POL_OK && strcmp(now, hash))
        s = pol_fail(ctx, POL_EFORMAT,
                     "%s: the model %s has changed since the run, or is another: its hash is %s and was %s", file, path,
                     now, hash);
    json_decref(run);
    return s;
}

static pol_status open_run(pol_context *ctx, const char *path, const char *model, pol_target *t)
{
    char *json = pol_path_join(ctx, path, POL_RUN_JSON), *mask = pol_path_join(ctx, path, POL_RUN_MASK);
    char *repaired = pol_path_join(ctx, path, POL_RUN_REPAIRED);
    pol_status s = json && mask && repaired ? open_model_of(ctx, json, model, &t->src) : POL_ENOMEM;
    if (s == POL_OK)
        s = pol_units_new(ctx, pol_source_config(t->src), &t->units);
    if (s == POL_OK && !pol_path_exists(mask))
        s = pol_fail(ctx, POL_EFORMAT,
                     "%s: the run is unfinished: it has no " POL_RUN_MASK "; 'pollard prune --resume' ends it", path);
    if (s == POL_OK) {
        t->mask = pol_alloc(ctx, (size_t)t->units->n);
        t->s = pol_alloc_array(ctx, t->units->n, sizeof *t->s);
        s = t->mask && t->s ? pol_mask_read(ctx, mask, t->units, &t->granularity, t->mask, t->s) : POL_ENOMEM;
    }
    if (s == POL_OK && pol_path_exists(repaired))
        s = pol_repaired_open(ctx, repaired, pol_source_config(t->src), t->units, t->mask, &t->repaired);
    pol_free(ctx, json);
    pol_free(ctx, mask);
    pol_free(ctx, repaired);
    return s;
}

pol_status pol_target_open(pol_context *ctx, const char *path, const char *model, pol_target *out)
{
    *out = (pol_target){.ctx = ctx};
    pol_status s;
    if (is_run(ctx, path)) {
        s = open_run(ctx, path, model, out);
    } else if (model) {
        s = pol_fail(ctx, POL_EARG, "%s is no run: only a run has a model at another place (%s)", path, model);
    } else {
        s = pol_source_open(ctx, path, &out->src);
        if (s == POL_OK)
            s = pol_units_new(ctx, pol_source_config(out->src), &out->units);
    }
    if (s < 0)
        pol_target_close(out);
    return s;
}

void pol_target_bare(pol_target *t)
{
    pol_repaired_close(t->repaired);
    t->repaired = NULL;
}

pol_status pol_target_apply(const pol_target *t, pol_model *m)
{
    POL_TRY(pol_model_set_mask(m, t->mask));
    return t->repaired ? pol_repaired_apply(t->repaired, m) : POL_OK;
}

void pol_target_config(const pol_target *t, pol_config *out)
{
    *out = *pol_source_config(t->src);
    if (t->mask)
        pol_mask_config(t->units, t->mask, pol_source_config(t->src), out);
}

void pol_target_close(pol_target *t)
{
    if (!t->ctx)
        return;
    pol_target_bare(t);
    pol_units_free(t->units);
    pol_source_close(t->src);
    pol_free(t->ctx, t->mask);
    pol_free(t->ctx, t->s);
    memset(t, 0, sizeof *t);
}

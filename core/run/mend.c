/* mend.c - every way to repair is tried, judged by the held-out loss of the model that it gives, and the best is kept.
 *
 * Each way has a file of its own until that is decided. Files bear what they were made from, so a call that goes on
 * takes what is whole and computes the rest. */
#include "core/run/mend.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/run/run.h"

/* What is judged before one is chosen; BIAS takes the first. */
static const char *const candidates[POL_REPAIR_TARGETS] = {
    [POL_REPAIR_HALF] = "repaired-half.safetensors", [POL_REPAIR_LOCAL] = "repaired-local.safetensors"};

typedef struct mending {
    const pol_mend_job *j;
    const pol_repair_outcome *earlier;
    pol_repair_outcome *x;
    pol_sequences cal; /* a view of those that are looked at */
    char identity[33];
    char *chosen;                   /* path of the file that stays */
    char *path[POL_REPAIR_TARGETS]; /* of the candidates */
} mending;

int64_t pol_mend_sequences(const pol_config *c, const pol_units *u, const uint8_t *mask, const pol_repair_settings *o,
                           int64_t S, int64_t n)
{
    return pol_min_i64(n, o->sequences == POL_AUTO ? pol_repair_sequences(c, u, mask, S) : o->sequences);
}

static pol_model *first_model(const mending *w) { return w->j->replicas->of[0].model; }

static pol_status remove_file(pol_context *ctx, const char *path)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return POL_OK;
    return pol_fail(ctx, POL_EIO, "%s: cannot be removed: %s", path, strerror(errno));
}

pol_status pol_mend_tidy(pol_context *ctx, const char *folder, bool chosen)
{
    pol_status s = POL_OK;
    for (int t = 0; s == POL_OK && t <= POL_REPAIR_TARGETS; t++) {
        if (t == POL_REPAIR_TARGETS && !chosen)
            break;
        char *path = pol_path_join(ctx, folder, t < POL_REPAIR_TARGETS ? candidates[t] : POL_RUN_REPAIRED);
        char *part = path ? pol_format(ctx, "%s.part", path) : NULL;
        s = part ? remove_file(ctx, path) : POL_ENOMEM;
        if (s == POL_OK)
            s = remove_file(ctx, part);
        pol_free(ctx, path);
        pol_free(ctx, part);
    }
    return s;
}

/* What decides every number in the files but the target. */
static pol_status identify(mending *w)
{
    const pol_mend_job *j = w->j;
    char mask[33], text[33];
    POL_TRY(pol_repair_mask_hash(j->ctx, first_model(w)->units, j->mask, mask));
    pol_bytes_hash(w->cal.ids, (size_t)(w->cal.n * w->cal.seq_len) * sizeof *w->cal.ids, text);
    char *all = pol_format(j->ctx, "%s %s %s %lld %s %s %a %a", j->model_hash, mask, text, (long long)w->cal.seq_len,
                           pol_backend_weights(first_model(w)->be), pol_repair_names[j->o.kind], j->o.damping,
                           j->o.kind == POL_REPAIR_RIDGE ? j->o.refit_inputs : 0);
    if (!all)
        return POL_ENOMEM;
    pol_bytes_hash(all, strlen(all), w->identity);
    pol_free(j->ctx, all);
    return POL_OK;
}

static pol_status prepare(mending *w)
{
    const pol_mend_job *j = w->j;
    const pol_model *m = first_model(w);
    w->cal = *j->cal;
    w->cal.n = pol_mend_sequences(&m->config, m->units, j->mask, &j->o, j->cal->seq_len, j->n);
    w->x->sequences = w->cal.n;
    w->chosen = pol_path_join(j->ctx, j->folder, POL_RUN_REPAIRED);
    for (int t = 0; t < POL_REPAIR_TARGETS; t++)
        if (!(w->path[t] = pol_path_join(j->ctx, j->folder, candidates[t])))
            return POL_ENOMEM;
    if (!w->chosen)
        return POL_ENOMEM;
    if (!j->judge && j->o.kind == POL_REPAIR_RIDGE && j->o.targets & (j->o.targets - 1))
        return pol_fail(j->ctx, POL_EARG, "repair: no text is held out to choose between two targets by");
    POL_TRY(identify(w));
    return j->resume ? POL_OK : pol_mend_tidy(j->ctx, j->folder, false);
}

/* Masked from the units' own order, so that all weights are judged in one order, whatever has been done before. */
static pol_status set_mask(mending *w)
{
    POL_TRY(pol_replicas_set_order(w->j->replicas, NULL));
    return pol_replicas_set_mask(w->j->replicas, w->j->mask);
}

/* The weights of a file on all replicas. */
static pol_status apply(mending *w, const pol_repaired *r)
{
    pol_replicas *all = w->j->replicas;
    POL_TRY(set_mask(w));
    for (int64_t i = 0; i < all->n; i++)
        POL_TRY(pol_replicas_on(all, i, pol_repaired_apply(r, all->of[i].model)));
    return POL_OK;
}

static pol_status open_file(mending *w, const char *path, pol_repaired **r)
{
    const pol_model *m = first_model(w);
    return pol_repaired_open(w->j->ctx, path, &m->config, m->units, w->j->mask, r);
}

static pol_status apply_file(mending *w, const char *path)
{
    pol_repaired *r;
    POL_TRY(open_file(w, path, &r));
    const pol_status s = apply(w, r);
    pol_repaired_close(r);
    return s;
}

static pol_status judge(mending *w, double *loss)
{
    *loss = NAN;
    return w->j->judge ? w->j->judge(w->j->user, loss) : POL_OK;
}

static bool is_tried(const mending *w, int target)
{
    return w->j->o.kind == POL_REPAIR_RIDGE ? w->j->o.targets >> target & 1 : target == 0;
}

/* What is on record of the choice of `target`; without a record what there is to be said of it. */
static pol_status recall(mending *w, pol_repair_target target)
{
    const pol_repair_outcome *e = w->earlier;
    if (e && e->known && e->kind == w->j->o.kind && e->target == target && e->sequences == w->cal.n) {
        *w->x = *e;
        return POL_OK;
    }
    w->x->kind = w->j->o.kind;
    w->x->target = target;
    return judge(w, &w->x->held_out[target]);
}

/* An earlier call came as far as choosing: *found, and the replicas have the weights. */
static pol_status take_chosen(mending *w, bool *found)
{
    pol_repaired *r;
    *found = false;
    if (!w->j->resume || !pol_path_exists(w->chosen) || open_file(w, w->chosen, &r) < 0)
        return POL_OK;
    const pol_repair_target target = pol_repaired_target(r);
    pol_status s = POL_OK;
    *found = !strcmp(pol_repaired_identity(r), w->identity) && pol_repaired_kind(r) == w->j->o.kind &&
             is_tried(w, (int)target);
    if (*found) {
        s = apply(w, r);
        if (s == POL_OK)
            s = recall(w, target);
    }
    pol_repaired_close(r);
    return s;
}

static pol_status try_all(mending *w)
{
    const pol_mend_job *j = w->j;
    pol_repair_job job = {.f = j->replicas->of[0].forward,
                          .host = j->host,
                          .mask = j->mask,
                          .cal = &w->cal,
                          .o = j->o,
                          .watch = j->layers,
                          .user = j->user};
    job.o.sequences = w->cal.n;
    memcpy(job.identity, w->identity, sizeof job.identity);
    for (int t = 0; t < POL_REPAIR_TARGETS; t++)
        job.path[t] = w->path[t];
    POL_TRY(pol_replicas_on(j->replicas, 0, pol_repair_run(&job, NULL)));
    return pol_replicas_follow_first(j->replicas);
}

/* Judges what was tried; x->kind and target become the best, or NONE. */
static pol_status choose(mending *w)
{
    double best = w->x->masked;
    for (int t = 0; t < POL_REPAIR_TARGETS; t++) {
        double *loss = &w->x->held_out[t];
        if (!is_tried(w, t))
            continue;
        POL_TRY(apply_file(w, w->path[t]));
        POL_TRY(judge(w, loss));
        if (w->j->judge && !(*loss < best))
            continue;
        best = *loss;
        w->x->kind = w->j->o.kind;
        w->x->target = (pol_repair_target)t;
    }
    return POL_OK;
}

static pol_status keep_best(mending *w)
{
    pol_context *ctx = w->j->ctx;
    if (w->x->kind == POL_REPAIR_NONE) {
        pol_log(ctx, POL_LOG_WARN, "no repair does better on held-out text than the mask alone: none is kept");
        return pol_mend_tidy(ctx, w->j->folder, true);
    }
    POL_TRY(pol_file_move(ctx, w->path[w->x->target], w->chosen));
    POL_TRY(pol_mend_tidy(ctx, w->j->folder, false));
    return apply_file(w, w->chosen);
}

static pol_status mend(mending *w)
{
    bool found;
    POL_TRY(prepare(w));
    w->x->passes = pol_repair_passes(&w->j->o, w->cal.n);
    if (isnan(w->x->masked)) {
        POL_TRY(set_mask(w));
        POL_TRY(judge(w, &w->x->masked));
    }
    POL_TRY(take_chosen(w, &found));
    if (found)
        return POL_OK;
    POL_TRY(try_all(w));
    POL_TRY(choose(w));
    return keep_best(w);
}

pol_status pol_mend(const pol_mend_job *j, const pol_repair_outcome *earlier, pol_repair_outcome *x)
{
    mending w = {.j = j, .earlier = earlier, .x = x};
    const double start = pol_seconds();
    *x = (pol_repair_outcome){.tried = j->o.kind, .masked = j->masked};
    for (int t = 0; t < POL_REPAIR_TARGETS; t++)
        x->held_out[t] = NAN;
    const pol_status s = mend(&w);
    x->known = s == POL_OK;
    x->seconds = pol_seconds() - start;
    pol_free(j->ctx, w.chosen);
    for (int t = 0; t < POL_REPAIR_TARGETS; t++)
        pol_free(j->ctx, w.path[t]);
    return s;
}

/* repair_model.h - a small model that is repaired, calibration sequences and a mask with all kinds of blocks, and the
 * folder that files of repaired weights go to. */
#ifndef POL_TEST_REPAIR_MODEL_H
#define POL_TEST_REPAIR_MODEL_H

#include <math.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/model/weights.h"
#include "core/repair/repair.h"
#include "tests/loaded_model.h"
#include "tests/unit/toy.h"

enum { SEQUENCES = 40, S = 16, B = 3, TOKENS = SEQUENCES * S }; /* the last batch is a part of one */

typedef struct fixture {
    pol_context *ctx;
    char dir[64];
    loaded m; /* that is repaired */
    pol_backend *host;
    uint8_t *mask;
    int32_t ids[TOKENS];
    pol_sequences cal;
    int warnings;
    char warning[512]; /* the last one */
} fixture;

static inline void count_warnings(void *user, pol_log_level level, const char *line)
{
    fixture *f = user;
    f->warnings += level == POL_LOG_WARN;
    if (level == POL_LOG_WARN)
        snprintf(f->warning, sizeof f->warning, "%s", line);
}

static inline int setup(void **state)
{
    fixture *f = *state = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/pollard-repair-XXXXXX");
    if (!mkdtemp(f->dir) || pol_context_new(NULL, &f->ctx) != POL_OK)
        return -1;
    pol_context_log(f->ctx, count_warnings, f, POL_LOG_WARN);
    return 0;
}

static inline int teardown(void **state)
{
    fixture *f = *state;
    const pol_status s = pol_remove_tree(f->ctx, f->dir);
    free(f->mask);
    pol_context_free(f->ctx);
    free(f);
    return s;
}

/* Returns its place among a few. */
static inline const char *in(const fixture *f, const char *name)
{
    static char path[8][256];
    static int turn;
    char *p = path[turn++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", f->dir, name);
    return p;
}

/* Of three layers: in the first two thirds of the units stay, in the second the attention block is gone and the MLP
 * whole, in the last the other way round but for a single channel. */
static inline void draw_mask(const pol_units *u, uint8_t *mask)
{
    toy_random r = {.seed = 5};
    for (int64_t i = 0; i < u->n_sections; i++) {
        const pol_section *sec = &u->sections[i];
        const bool channels = sec->kind == POL_UNIT_CHANNEL;
        int64_t kept = 0;
        for (int64_t j = 0; j < sec->count; j++) {
            const bool some = toy_uniform(&r) < 0.66, last = channels ? sec->layer == 1 : sec->layer != 1;
            mask[sec->first + j] = sec->kind > POL_UNIT_CHANNEL || (sec->layer == 0 ? some : last);
            kept += mask[sec->first + j];
        }
        if (sec->layer == 0 && sec->count > 1 && (kept == 0 || kept == sec->count)) /* some go, some stay */
            mask[sec->first] = !kept;
        if (sec->layer == 2 && channels) {
            memset(mask + sec->first, 0, (size_t)sec->count);
            mask[sec->first + 7] = 1;
        }
        if (sec->kind == POL_UNIT_ATTENTION && sec->layer == 1)
            mask[sec->first] = 0;
    }
}

static inline void load_fixture(fixture *f, const char *name)
{
    char model[256];
    snprintf(model, sizeof model, "models/%s", name);
    load_placed(&f->m, f->ctx, open_cpu(f->ctx), test_file(model), NULL, B, S);
    assert_ok(f->ctx, pol_backend_open_host(f->ctx, 1, &f->host));
    f->mask = realloc(f->mask, (size_t)f->m.units->n);
    draw_mask(f->m.units, f->mask);
    toy_random r = {.seed = 11};
    for (int i = 0; i < TOKENS; i++)
        f->ids[i] = (int32_t)toy_below(&r, pol_model_config(f->m.model)->vocab);
    f->cal = (pol_sequences){.ctx = f->ctx, .n = SEQUENCES, .seq_len = S, .ids = f->ids};
}

static inline void unload_fixture(fixture *f)
{
    unload(&f->m);
    pol_backend_close(f->host);
}

/* Files half and local of the folder. */
static inline pol_repair_job job_of(const fixture *f, pol_repair_kind kind)
{
    pol_repair_job j = {.f = f->m.forward, .host = f->host, .mask = f->mask, .cal = &f->cal};
    pol_repair_defaults(&j.o);
    j.o.kind = kind;
    j.o.sequences = SEQUENCES;
    j.path[POL_REPAIR_HALF] = in(f, "half");
    j.path[POL_REPAIR_LOCAL] = in(f, "local");
    strcpy(j.identity, "0123456789abcdef0123456789abcdef");
    return j;
}

static inline pol_repaired *open_repaired(const fixture *f, const char *name)
{
    pol_repaired *r = NULL;
    assert_ok(f->ctx, pol_repaired_open(f->ctx, in(f, name), pol_model_config(f->m.model), f->m.units, f->mask, &r));
    return r;
}

#endif

/* loaded_model.h - a small model of tests/data on a backend, its golden losses, and masks to try it with. */
#ifndef POL_TEST_LOADED_MODEL_H
#define POL_TEST_LOADED_MODEL_H

#include "core/backend.h"
#include "core/base/json.h"
#include "pollard/model.h"
#include "tests/test.h"

enum { GOLDEN_B = 3, GOLDEN_S = 48 }; /* of every golden.json */

typedef struct loaded {
    pol_context *ctx;
    pol_source *src;
    pol_backend *be; /* owned */
    pol_model *model;
    pol_forward *forward;
    const pol_units *units;
    json_t *golden; /* NULL: none */
    int32_t ids[GOLDEN_B * GOLDEN_S];
} loaded;

/* `model`: a path; `placement` may be NULL. Room for B sequences of S tokens and no more; ids of no meaning. Takes the
 * backend over. */
void load_placed(loaded *m, pol_context *ctx, pol_backend *be, const char *model, const pol_placement *placement,
                 int64_t B, int64_t S);
/* Resident, with the ids and losses of `golden`, its golden.json. */
void load_model(loaded *m, pol_context *ctx, pol_backend *be, const char *model, const char *golden, int64_t B,
                int64_t S);
/* models/NAME. */
void load_named(loaded *m, pol_context *ctx, pol_backend *be, const char *name, int64_t B, int64_t S);
/* With room for all of the golden sequences. */
void load_golden(loaded *m, pol_context *ctx, pol_backend *be, const char *name);
void unload(loaded *m);

/* The CPU's backend, with one thread. */
pol_backend *open_cpu(pol_context *ctx);

/* Losses of the golden sequences under a mask; NULL = dense. */
void golden_losses(loaded *m, const uint8_t *mask, double loss[GOLDEN_B]);
/* Dense, under the golden masks and dense again: within `tolerance`, relative, of what transformers computes. */
void check_golden(loaded *m, double tolerance);

/* Half of the units, nine tenths of the blocks. Of step 0: nothing stays. */
void random_mask(const pol_units *u, uint64_t step, uint8_t *mask);

#endif

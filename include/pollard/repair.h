/* repair.h - closed-form update of the weights that a mask keeps, from forward statistics.
 *
 * What a block's last matrix, w_o or w_down, loses with its removed inputs the kept rows can make up for in part. Two
 * forms, and none:
 *
 *   RIDGE  in layer order, each block on the stream that the repaired layers before it give. X are the kept inputs on
 *          that stream, x the stream before the block, x_d the dense model's after it, X_all W_all what the whole block
 *          would add here:
 *              Y = r (x_d - x) + (1 - r) X_all W_all
 *              W <- W + (X^T X + damping mean(diag) I)^-1 X^T (Y - X W)
 *          r = 1/2 is definition "half" (half of what makes the stream dense again), r = 0 "local". Both are tried,
 *          the one that does better on held-out calibration text is kept. A block that is whole stays as it is under
 *          "local", and is solved like any other under "half".
 *   BIAS   a constant a block: the mean over tokens of what the removed inputs contributed in the dense model (An et
 *          al. 2023, arXiv 2312.11983). Cheap; the model then has output biases.
 *
 * Only weights change in RIDGE, so the repaired model has the shape of the masked one.
 */
#ifndef POLLARD_REPAIR_H
#define POLLARD_REPAIR_H

#include "pollard/data.h"
#include "pollard/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pol_repair_kind { POL_REPAIR_NONE = 0, POL_REPAIR_BIAS, POL_REPAIR_RIDGE } pol_repair_kind;
POL_API extern const char *const pol_repair_names[]; /* "none", "bias", "ridge", NULL */
typedef enum pol_repair_target { POL_REPAIR_HALF = 0, POL_REPAIR_LOCAL, POL_REPAIR_TARGETS } pol_repair_target;
POL_API extern const char *const pol_repair_target_names[]; /* "half", "local", NULL */

typedef struct pol_repair_settings {
    pol_repair_kind kind;
    double damping;      /* of the ridge, as a share of the mean diagonal */
    double refit_inputs; /* strength at which w_qkv and w_gate_up are re-fitted too, before each block, so that they see
                          * what the dense stream would have given: W += strength (y^T y + ridge)^-1 y^T (y_d - y) W, y
                          * the normed stream; 0 = not at all */
    unsigned targets;    /* bits of pol_repair_target that are tried */
    int64_t sequences;   /* of the calibration text that are looked at */
} pol_repair_settings;

/* RIDGE, damping 0.01, no refit, both targets, as many sequences as 20 tokens a column of the widest block take, and at
 * least 256 (POL_AUTO until it is resolved). */
POL_API void pol_repair_defaults(pol_repair_settings *o);
/* POL_EARG naming setting and value. */
POL_API pol_status pol_repair_check(pol_context *ctx, const pol_repair_settings *o);

/* What came of a repair. */
typedef struct pol_repair_outcome {
    bool known;
    pol_repair_kind tried;
    pol_repair_kind kind;     /* as tried; NONE: nothing that was tried did better than the mask alone */
    pol_repair_target target; /* of RIDGE: the one that did best */
    double masked;            /* held-out loss of the mask alone; NaN: not judged */
    double
        held_out[POL_REPAIR_TARGETS]; /* of what was tried, by target, of BIAS the first; NaN: not tried, not judged */
    int64_t sequences;                /* of the calibration text that were looked at */
    int64_t passes;                   /* forward sequences spent on that; a pass of all blocks counts once */
    double seconds;
} pol_repair_outcome;

/* Repaired weights of a run, in a file of their own beside its mask; opened with a pol_target (run.h). */
typedef struct pol_repaired pol_repaired;
enum { POL_REPAIRED_TEXT_BYTES = 64 };
/* For people: "ridge, target half, inputs re-fitted". Returns its buffer. */
POL_API const char *pol_repaired_text(const pol_repaired *r, char buf[POL_REPAIRED_TEXT_BYTES]);

#ifdef __cplusplus
}
#endif
#endif

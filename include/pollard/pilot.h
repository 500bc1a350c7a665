/* pilot.h - sizing a run by measurement: a few masks on a few sequences say how noisy losses are, and with what masks
 * and passes cost, how to spend the forward sequences of the run.
 */
#ifndef POLLARD_PILOT_H
#define POLLARD_PILOT_H

#include <stdbool.h>

#include <stdbool.h>
#include <stdint.h>

#include "pollard/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Masks and sequences of the pilot that a run makes. */
enum { POL_PILOT_MASKS = 16, POL_PILOT_SEQUENCES = 16 };

/* Variances of loss[mask, sequence] = mean + mask + sequence + rest, and times. */
typedef struct pol_pilot {
    int32_t masks, sequences;
    double between_masks;     /* Vm */
    double between_sequences; /* Vs: cancels where the masks of a step share their sequences */
    double residual;          /* Vr: what a sequence thinks of one mask in particular */
    double change_seconds;    /* measured by the caller: of another mask */
    double pass_seconds;      /* and of one sequence under it */
} pol_pilot;

/* The three variances, from loss [masks, sequences], 2 or more of each; the times stay. Analysis of variance with two
 * random effects: unbiased before what comes out negative is made 0. POL_ENUMERIC naming mask and sequence. */
POL_API pol_status pol_pilot_variances(pol_context *ctx, const double *loss, int32_t masks, int32_t sequences,
                                       pol_pilot *out);

/* What the run is to learn, and what has been settled; 0: to be chosen. */
typedef struct pol_pilot_ask {
    bool allocation;      /* counts of blocks; else single units */
    int64_t passes;       /* forward sequences */
    int64_t variables;    /* counts, or units */
    int32_t candidates;   /* K, masks of a step */
    int32_t sequences;    /* nb, sequences of a mask */
    double learning_rate; /* of pol_allocation_settings, or pol_learn_settings */
    double spread;        /* spread_channels of pol_allocation_settings; spread_groups is twice that */
} pol_pilot_ask;

/* Why, in lines for people; "" behind the last. */
enum { POL_PILOT_REASONS = 7, POL_PILOT_TEXT = 192 };

typedef struct pol_pilot_choice {
    int32_t candidates, sequences;
    double learning_rate;
    double spread; /* 0 where single units are learnt */
    int64_t steps; /* passes / (K nb), 1 or more */
    char reason[POL_PILOT_REASONS][POL_PILOT_TEXT];
} pol_pilot_choice;

/* Depends on its arguments alone. What has been settled stays.
 *     nb             sqrt(Vr change / (Vm pass)), least variance of a step for its time, as the nearest power of two
 *     K              counts: near 4 sqrt(variables / (Vm / (Vm + Vr / nb))), a power of two that leaves 120 steps, 8 or
 *                    more; units: 16, or 8 where that would leave fewer than 60 steps
 *     learning rate  counts: 3 sqrt(K / 16), in runs of less than 120 steps by sqrt(120 / steps) more, at most twice;
 *                    units: 6 / sqrt(passes)
 *     spread         counts: 0.10, or 0.15 where Vr / nb is above Vm
 * POL_EARG: no passes or variables, a settled K that is odd (counts), a pilot that cannot be. */
POL_API pol_status pol_pilot_choose(pol_context *ctx, const pol_pilot *p, const pol_pilot_ask *ask,
                                    pol_pilot_choice *out);

#ifdef __cplusplus
}
#endif
#endif

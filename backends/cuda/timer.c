/* timer.c - device time by op.
 *
 * Marks are events on the stream that computes, one where an op begins: an op's time is from its mark to the next. So
 * an op of several launches, some of them inside cuBLASLt, is measured whole.
 */
#include "backends/cuda/cuda.h"

enum { MARKS = 4096 };

const char *const cu_op_names[CU_OPS] = {
    [CU_EMBED] = "embed",
    [CU_RMSNORM] = "rmsnorm",
    [CU_PROJECT] = "project",
    [CU_PROJECT_SWIGLU] = "project_swiglu",
    [CU_PROJECT_ADD] = "project_add",
    [CU_ROPE] = "rope",
    [CU_ATTENTION] = "attention",
    [CU_SWIGLU] = "swiglu",
    [CU_NLL] = "nll",
    [CU_SWAP_UNITS] = "swap_units",
    [CU_ACTIVATION_STATS] = "activation_stats",
    [CU_GRAM] = "gram",
    [CU_SOLVE_SPD] = "solve_spd",
    [CU_OBS_SWEEP] = "obs_sweep",
    [CU_TRANSFER] = "transfer",
};

typedef struct cu_timer {
    cudaEvent_t event[MARKS]; /* made when first needed, then used again */
    cu_op op[MARKS];
    int n;
    double seconds[CU_OPS]; /* of marks that had to make room */
} cu_timer;

pol_status cu_timer_open(cu *c)
{
    c->timer = pol_alloc_zero(c->base.ctx, sizeof *c->timer);
    return c->timer ? POL_OK : POL_ENOMEM;
}

void cu_timer_close(cu *c)
{
    for (int i = 0; c->timer && i < MARKS; i++)
        if (c->timer->event[i])
            cudaEventDestroy(c->timer->event[i]);
    pol_free(c->base.ctx, c->timer);
    c->timer = NULL;
}

/* Adds up the times between the marks; the last becomes the first. Waits. */
static pol_status fold(cu *c)
{
    pol_context *ctx = c->base.ctx;
    cu_timer *t = c->timer;
    if (t->n < 2)
        return POL_OK;
    CU_TRY(ctx, "times", cudaEventSynchronize, t->event[t->n - 1]);
    for (int i = 0; i + 1 < t->n; i++) {
        float ms = 0;
        CU_TRY(ctx, "times", cudaEventElapsedTime, &ms, t->event[i], t->event[i + 1]);
        t->seconds[t->op[i]] += 1e-3 * (double)ms;
    }
    const cudaEvent_t last = t->event[t->n - 1];
    t->event[t->n - 1] = t->event[0];
    t->event[0] = last;
    t->op[0] = t->op[t->n - 1];
    t->n = 1;
    return POL_OK;
}

static pol_status mark(cu *c, cu_op op)
{
    cu_timer *t = c->timer;
    if (t->n == MARKS)
        POL_TRY(fold(c));
    if (!t->event[t->n])
        CU_TRY(c->base.ctx, cu_op_names[op], cudaEventCreateWithFlags, &t->event[t->n], cudaEventDefault);
    CU_TRY(c->base.ctx, cu_op_names[op], cudaEventRecord, t->event[t->n], c->compute);
    t->op[t->n++] = op;
    return POL_OK;
}

pol_status cu_begin(cu *c, cu_op op)
{
    CU_TRY(c->base.ctx, cu_op_names[op], cudaSetDevice, c->device);
    return c->timer ? mark(c, op) : POL_OK;
}

pol_status cu_times(cu *c, double seconds[CU_OPS])
{
    for (int i = 0; i < CU_OPS; i++)
        seconds[i] = 0;
    if (!c->timer)
        return POL_OK;
    POL_TRY(cu_begin(c, CU_TRANSFER)); /* the end of the last op */
    POL_TRY(fold(c));
    for (int i = 0; i < CU_OPS; i++) {
        seconds[i] = c->timer->seconds[i];
        c->timer->seconds[i] = 0;
    }
    return POL_OK;
}

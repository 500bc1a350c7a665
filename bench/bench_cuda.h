/* bench_cuda.h - what the parts of bench_cuda share: options and a session (bench_cuda.c), what is measured of a
 * resident model (cuda_rounds.c), of a streamed one (cuda_streamed.c) and of what repairs one (cuda_repair.c). */
#ifndef BENCH_CUDA_H
#define BENCH_CUDA_H

#include "backends/cuda/cuda.h"
#include "bench/bare.h"
#include "bench/figures.h"
#include "pollard/mask.h"
#include "pollard/model.h"

enum { MAX_ROUNDS = 100, MAX_CELLS = 32 };

typedef struct options {
    pol_config config; /* of the model */
    int64_t batch, seq_len;
    double keep;
    int64_t rounds;
    int64_t cells;           /* passes that are queued before one is waited for */
    int32_t streamed_layers; /* of the streamed model; 0: there is none */
    int64_t streamed_cells;  /* passes that its visits serve at most */
    int64_t square;          /* rows of the matrices whose product is the card's peak; half as many in f64 */
    int64_t sweep_block;     /* units that a sweep removes at a time; 0: nothing is repaired */
    int64_t copy_bytes;
    int32_t device;
    const char *json; /* NULL: not wanted */
} options;

typedef struct session {
    pol_context *ctx;
    const options *o;
    pol_backend *be;
    pol_model *model;
    pol_forward *forward;
    int32_t *ids;   /* [batch, seq_len] */
    double *loss;   /* [batch] */
    uint8_t *masks; /* [MAX_CELLS, units] */
    uint64_t drawn; /* draws so far */
    figures *out;
} session;

/* `n` masks in which each group and channel stays with probability `keep`; `mask` with a share of them changed. No two
 * calls draw alike. */
void session_draw(session *s, double keep, int64_t n, uint8_t *masks);
void session_disturb(session *s, double share, uint8_t *mask);
/* A pass under the model's mask. Settling waits for all; POL_ENUMERIC where a loss is not finite. */
pol_status session_queue(session *s);
pol_status session_settle(session *s);

/* Peak, passes, changes of the mask, device time by op; steps of more and more passes. */
pol_status measure_rounds(session *s);
pol_status measure_streamed(session *s);
/* Second moments and a sweep; needs no model. */
pol_status measure_repair(session *s);

#endif

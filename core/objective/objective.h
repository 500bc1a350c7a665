/* objective.h - losses of a mask, by whatever objective: asked for, then waited for, on the model as masked now.
 *
 * The three kinds are called alike. An index is a sequence of the calibration text or an item of the task. Nobody but
 * the objective queues on the replicas between a look and the settling.
 */
#ifndef POL_OBJECTIVE_H
#define POL_OBJECTIVE_H

#include "core/eval/task.h"
#include "core/replicas.h"
#include "pollard/objective.h"

typedef struct pol_objective pol_objective;

typedef struct pol_objective_inputs {
    const pol_sequences *text; /* CROSS_ENTROPY, KL; borrowed */
    const pol_task *task;      /* ACCURACY; borrowed */
    int64_t batch;             /* sequences that go through a model at a time, at most */
} pol_objective_inputs;

/* `r` is borrowed. On success *out is yours: pol_objective_free(). */
pol_status pol_objective_new(pol_replicas *r, pol_objective_kind kind, const pol_objective_inputs *in,
                             pol_objective **out);
void pol_objective_free(pol_objective *q); /* takes NULL; drops what is asked for */

/* Before any look at them: of KL, what the dense model says of sequences index[0..n) is kept; those that it is kept of
 * already are passed over. `index` NULL: those from `first` on. The replicas have their weights as loaded; for the
 * passes the units lie at their own numbers, so that a resumed run gets the same bits whatever it does before, and
 * afterwards as they lay, all of them kept. The other kinds have nothing to prepare, and change nothing. `fn` (may be
 * NULL) as in pol_eval_sequences(). */
pol_status pol_objective_prepare(pol_objective *q, const int64_t *index, int64_t first, int64_t n,
                                 pol_eval_progress_fn fn, void *user);

/* Queues what gives loss[i] of index[i] (NULL: first + i), i < n, under the mask, order or lengths that are set;
 * `index` is read during the call, loss [n] is filled when pol_objective_settle() returns POL_OK. After a failure of
 * either, and after a drop, nothing that has been asked for is written any more. POL_EARG: an index outside, or one
 * that is not prepared. */
pol_status pol_objective_look(pol_objective *q, const int64_t *index, int64_t first, int64_t n, double *loss);
pol_status pol_objective_settle(pol_objective *q);
void pol_objective_drop(pol_objective *q);

/* Forward sequences that such a look takes. */
int64_t pol_objective_sequences(const pol_objective *q, const int64_t *index, int64_t first, int64_t n);

/* Items of a task that are learnt from; the others judge. POL_EFORMAT where there are none of either. */
pol_status pol_objective_items(const pol_objective_settings *o, const pol_task *t, int64_t *n);

/* What it needs: targets a position (pol_memory_request.max_targets), and host bytes with sequences of seq_len
 * tokens, of which `prepared` are prepared and `asked` are asked for at a time; of a task each choice is one. */
int64_t pol_objective_targets(pol_objective_kind kind);
uint64_t pol_objective_bytes(pol_objective_kind kind, int64_t seq_len, int64_t prepared, int64_t asked);

#endif

/* stage_trainer.c - what the stages with Bernoulli probabilities share: a trainer over r->dist. */
#include <string.h>

#include "core/run/stage.h"

static size_t bytes(const pol_job *r) { return (size_t)r->in.units->n * sizeof *r->dist->s; }

pol_status pol_stage_trainer(pol_job *r, const pol_learn_settings *o, const pol_losses *losses)
{
    return pol_trainer_new(r->ctx, o, r->dist, pol_job_learnt_from(r), losses, &r->trainer);
}

void pol_stage_trainer_close(pol_job *r)
{
    pol_trainer_free(r->trainer);
    pol_distribution_free(r->dist);
    r->trainer = NULL;
    r->dist = NULL;
}

pol_status pol_stage_trainer_resume(pol_job *r)
{
    memcpy(r->dist->s, r->ck.s, bytes(r));
    return pol_trainer_set(r->trainer, r->ck.step, &r->ck.estimator);
}

void pol_stage_trainer_save(pol_job *r)
{
    pol_trainer_get(r->trainer, &r->ck.step, &r->ck.estimator);
    memcpy(r->ck.s, r->dist->s, bytes(r));
}

void pol_stage_trainer_keep(pol_job *r) { memcpy(r->ck.best_s, r->dist->s, bytes(r)); }

pol_status pol_stage_trainer_step(pol_job *r, pol_step_report *report) { return pol_trainer_step(r->trainer, report); }

pol_status pol_stage_look(pol_job *r, const int64_t *index, int64_t n, double *loss)
{
    r->sequences[POL_PURPOSE_LEARN] += pol_objective_sequences(r->objective, index, 0, n);
    return pol_job_look(r, index, n, loss);
}

pol_status pol_stage_settle(void *job) { return pol_objective_settle(((pol_job *)job)->objective); }
void pol_stage_drop(void *job) { pol_objective_drop(((pol_job *)job)->objective); }

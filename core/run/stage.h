/* stage.h - the stages of learning: what a policy is asked by the loop that they share (stages.c).
 *
 * Between steps all that is learnt is in r->ck: probabilities, and the numbers of pol_job_state(). */
#ifndef POL_STAGE_H
#define POL_STAGE_H

#include "core/run/job.h"

typedef struct pol_stage {
    pol_status (*open)(pol_job *r);   /* the policy as it begins, from what has been accepted so far */
    pol_status (*resume)(pol_job *r); /* the policy, opened, as r->ck has it */
    void (*save)(pol_job *r);         /* the policy to r->ck */
    pol_status (*step)(pol_job *r, pol_step_report *report);
    pol_status (*set)(pol_job *r);               /* what the policy stands for now: on the devices */
    void (*keep)(pol_job *r);                    /* and in r->ck, as the best so far */
    pol_status (*accept)(pol_job *r, bool best); /* the best, or the last, is what later stages begin with */
    void (*close)(pol_job *r);                   /* takes one that has not been opened */
} pol_stage;

extern const pol_stage pol_stage_allocation, pol_stage_blocks, pol_stage_units;

/* Numbers of r->ck.state. */
typedef struct pol_job_state {
    double *result; /* [POL_STAGES, 3]: of pol_stage_result, chosen step, before, after */
    /* With method ALLOCATION. */
    double *deviation;
    double *mean, *spread; /* [2 n_layers] of the shaper */
    double *best;          /* [2 n_layers] the mean counts that did best; of stage BLOCKS: counts */
    double *count;         /* [2 n_layers] accepted so far, whole numbers */
    double *order;         /* [order size] the nested order, where there is no database that has it; else NULL */
} pol_job_state;
pol_job_state pol_job_state_of(const pol_job *r);

/* The mask that probabilities of units stand for, within the rules of the counts. */
pol_status pol_stage_units_mask(pol_job *r, const pol_distribution *d, uint8_t *mask);

/* The trainer of stages BLOCKS and UNITS over r->dist, whose state is r->ck's. */
pol_status pol_stage_trainer(pol_job *r, const pol_learn_settings *o, const pol_losses *losses);
void pol_stage_trainer_close(pol_job *r);
pol_status pol_stage_trainer_resume(pol_job *r);
void pol_stage_trainer_save(pol_job *r);
void pol_stage_trainer_keep(pol_job *r);
pol_status pol_stage_trainer_step(pol_job *r, pol_step_report *report);

/* Losses of sequences for learning, under what is set on the devices; and their settling. */
pol_status pol_stage_look(pol_job *r, const int64_t *index, int64_t n, double *loss);
pol_status pol_stage_settle(void *job);
void pol_stage_drop(void *job);

#endif

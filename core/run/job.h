/* job.h - the state of a run under way, shared by the parts that measure, record and drive. */
#ifndef POL_JOB_H
#define POL_JOB_H

#include "core/learn/checkpoint.h"
#include "core/run/run.h"
#include "pollard/model.h"

typedef struct pol_job {
    pol_context *ctx;
    pol_prune_settings o;
    const pol_prune_observer *watch;
    pol_run_folder folder;
    pol_inputs in;
    pol_model *model;
    pol_forward *forward;
    pol_distribution *dist;
    pol_trainer *trainer; /* NULL where nothing is learnt */
    float *initial_s;     /* [n]: breaks ties of hard masks */
    uint8_t *mask;        /* [n] scratch */
    int32_t *batch_ids;   /* [batch * seq_len] gathered sequences */
    int64_t sequences[POL_PURPOSES];
    pol_checkpoint ck; /* the snapshot, and the best probabilities so far */
    bool begun;        /* ck holds a snapshot of this run */
    bool saved;        /* a checkpoint of it is on disk */
    double started;    /* on the clock, less what earlier parts of the run took */
    double written;    /* when, on the clock, the last checkpoint was */
    pol_prune_result *result;
    json_t *json; /* run.json */
    pol_step_log log;
} pol_job;

/* Mean losses of n sequences of the calibration text under a mask: those of `index`, or from `first` on where it is
 * NULL. Asked for by pol_job_look(); there when pol_job_settle() returns; given up by pol_job_drop(). */
pol_status pol_job_look(pol_job *r, const uint8_t *mask, const int64_t *index, int64_t first, int64_t n, double *loss);
pol_status pol_job_settle(pol_job *r);
void pol_job_drop(pol_job *r);
/* Mean NLL of the held-out sequences under the hard mask of a step (NULL = dense); NaN where none are held out. Not
 * finite: POL_ENUMERIC. */
pol_status pol_job_held_out(pol_job *r, const uint8_t *mask, int64_t step, double *mean);
/* Sizes of the model that a mask leaves, its loss on the held-out sequences and its perplexity on the user's text. */
pol_status pol_job_measure(pol_job *r, const uint8_t *mask, int64_t step, pol_outcome *x);

/* run.json with what is known so far; and taking up a run whose record is `old`. */
pol_status pol_job_new_json(pol_job *r, const json_t *old);
pol_status pol_job_write_json(pol_job *r, const char *status);
pol_status pol_job_read_results(pol_job *r, const json_t *old);
/* Keeps the devices that the run has been on before; one that goes on with another is said to. That is no obstacle, but
 * no number is then what one device alone would have given. */
void pol_job_note_device(pol_job *r, const json_t *old);

#endif

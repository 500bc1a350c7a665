/* job.h - the state of a run under way, shared by the parts that measure, record and drive. */
#ifndef POL_JOB_H
#define POL_JOB_H

#include "core/learn/checkpoint.h"
#include "core/replicas.h"
#include "core/run/run.h"

typedef struct pol_job {
    pol_context *ctx;
    pol_prune_settings o;
    const pol_prune_observer *watch;
    pol_run_folder folder;
    pol_inputs in;
    pol_replicas replicas;
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
 * NULL. Asked for by pol_job_look(); there when r->replicas are settled; given up where they are dropped. */
pol_status pol_job_look(pol_job *r, const uint8_t *mask, const int64_t *index, int64_t first, int64_t n, double *loss);
/* Mean NLL of the held-out sequences under the hard mask of a step (NULL = dense); NaN where none are held out. Not
 * finite: POL_ENUMERIC. */
pol_status pol_job_held_out(pol_job *r, const uint8_t *mask, int64_t step, double *mean);
/* Sizes of the model that a mask leaves, its loss on the held-out sequences and its perplexity on the user's text. */
pol_status pol_job_measure(pol_job *r, const uint8_t *mask, int64_t step, pol_outcome *x);

/* Tells the log and the caller what is done next. */
void pol_job_stage(const pol_job *r, const char *name);

/* r->o.learn.budget, when the model is loaded: milliseconds are measured first, or taken from the record of a run that
 * goes on. And what a mask comes to by it. */
pol_status pol_job_budget(pol_job *r, const json_t *old);
void pol_job_report_budget(const pol_job *r, const uint8_t *mask, pol_cost_report *out);

/* Of buffers, at their highest, on the device that had most. */
uint64_t pol_job_peak_device_bytes(const pol_job *r);

/* run.json with what is known so far; and taking up a run whose record is `old`. */
pol_status pol_job_new_json(pol_job *r, const json_t *old);
pol_status pol_job_write_json(pol_job *r, const char *status);
pol_status pol_job_read_results(pol_job *r, const json_t *old);
/* Keeps the devices that the run has been on before; one that goes on with another kind is said to. That is no
 * obstacle, but no number is then what one kind alone would have given. How many of a kind there are plays no part. */
pol_status pol_job_note_devices(pol_job *r, const json_t *old);

#endif

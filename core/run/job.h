/* job.h - the state of a run under way, shared by the parts that measure, record and drive. */
#ifndef POL_JOB_H
#define POL_JOB_H

#include "core/learn/checkpoint.h"
#include "core/objective/objective.h"
#include "core/repair/database.h"
#include "core/replicas.h"
#include "core/run/run.h"

/* What counts of units stand for: the order in which a block's units are kept, the repaired rows at each level. */
typedef struct pol_nested {
    pol_database *db;      /* NULL: counts are learnt in the model as it is */
    pol_levels **levels;   /* [n_devices] where there is a database */
    pol_buf ***rows;       /* [n_devices] [2 n_layers] that the devices use now */
    int32_t *order;        /* [order size] */
    pol_shape_rules rules; /* of the counts */
    const int64_t **level; /* [2 n_layers] that the rules prefer */
    int64_t *n_levels;
    double *want; /* [2 n_layers] scratch, as the next two */
    int64_t *count, *at_most;
} pol_nested;

typedef struct pol_job {
    pol_context *ctx;
    pol_prune_settings o;
    const pol_prune_observer *watch;
    pol_run_folder folder;
    pol_inputs in;
    pol_replicas replicas;
    pol_backend *host; /* opened beside the devices, where those cannot repair what is to be repaired; else NULL */
    float *initial_s;  /* [n]: breaks ties of hard masks */
    uint8_t *mask;     /* [n] scratch; after learning the learnt one */
    pol_nested nested; /* with method ALLOCATION */
    /* The policy of the stage under way, one or the other. */
    pol_distribution *dist;
    pol_trainer *trainer;
    pol_shaper *shaper;
    pol_objective *objective; /* of learning */
    pol_objective *nll;       /* of the rows of the closing table; the same one where that is cross entropy */
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

/* Sequences, or items, that are learnt from, and those after them that judge masks. */
int64_t pol_job_learnt_from(const pol_job *r);
int64_t pol_job_judged_by(const pol_job *r);
/* Losses, by the run's objective, of what is set on the devices: of n indices to learn from (NULL: from `first` on),
 * asked for; there when r->objective is settled, given up where it is dropped. And the mean over what judges masks;
 * NaN where nothing does. Not finite: POL_ENUMERIC naming the step. */
pol_status pol_job_look(pol_job *r, const int64_t *index, int64_t n, double *loss);
pol_status pol_job_judge(pol_job *r, int64_t step, double *mean);
/* Mean NLL of the held-out sequences under what is set; NaN where there are none. */
pol_status pol_job_held_out(pol_job *r, double *mean);
/* Sizes of the model that a mask leaves (NULL: dense), its NLL on the held-out sequences and its perplexity on the
 * user's text. `set`: the devices have it already, with repaired weights. */
pol_status pol_job_measure(pol_job *r, const uint8_t *mask, bool set, int64_t step, pol_outcome *x);

/* Tells the log and the caller what is done next; and, as a pol_eval_progress_fn of the job, how far it is. */
void pol_job_stage(const pol_job *r, const char *name);
pol_status pol_job_progress(void *job, int64_t done, int64_t total);

/* Prepares the objective for all that the stages' steps and judgements will look at (drawn.c). With the weights as
 * loaded, when the settings of all stages are known. */
pol_status pol_job_prepare(pol_job *r);

/* r->o.learn.budget, when the model is loaded: milliseconds are measured first, or taken from the record of a run that
 * goes on. And what a mask comes to by it. */
pol_status pol_job_budget(pol_job *r, const json_t *old);
void pol_job_report_budget(const pol_job *r, const uint8_t *mask, pol_cost_report *out);

/* Sizing (r->o.sized), when what learning begins with is known: measures, chooses, settles the steps, records it. Or as
 * the record of a run that goes on has it: nothing is measured twice. */
pol_status pol_job_size(pol_job *r);
pol_status pol_job_take_sizing(pol_job *r, const json_t *old);

/* Of buffers, at their highest, on the device that had most. */
uint64_t pol_job_peak_device_bytes(const pol_job *r);

/* What counts stand for: builds the database, or takes it up where the folder has it; `resumed`: r->ck is of a run that
 * has begun to learn. Whether it came to its end or not: pol_nested_close() with the rest of the job. */
pol_status pol_nested_open(pol_job *r, bool resumed);
void pol_nested_close(pol_job *r); /* takes a zeroed one */
/* Counts, 2 n_layers, and the units that number i of them is of: numbers as of pol_shape_rules. */
int64_t pol_nested_counts(const pol_job *r);
const pol_section *pol_nested_section(const pol_job *r, int64_t i);
/* The counts that learning begins with, real. */
pol_status pol_nested_start(pol_job *r, double *want);
/* r->nested.want to whole counts within the budget and r->nested.at_most: r->nested.count. */
pol_status pol_nested_fill(pol_job *r);
/* Counts [2 n_layers] as a mask, as the probabilities of their units, and as what the devices compute: in the repaired
 * model where there is one. */
void pol_nested_mask(const pol_job *r, const double *count, uint8_t *mask);
void pol_nested_probabilities(const pol_job *r, const double *count, float *s);
pol_status pol_nested_set(pol_job *r, const int64_t *count);
/* The model's own rows are replaced by those of the next larger level of what has been accepted. */
pol_status pol_nested_put_larger(pol_job *r);
/* Their memory is given back. */
void pol_nested_drop_levels(pol_job *r);
/* Opens the backend that solves, where a repair needs one that the devices are not; and the one that does. */
pol_status pol_job_open_host(pol_job *r);
pol_backend *pol_job_host(const pol_job *r);

/* All stages that have steps, from the one in r->ck on; afterwards r->ck.s, and with method ALLOCATION its counts, are
 * what was learnt. */
pol_status pol_learn_stages(pol_job *r);
pol_checkpoint_shape pol_job_checkpoint_shape(const pol_job *r);
/* An order of units that the checkpoint has, on the devices; POL_EFORMAT where it is none. */
pol_status pol_job_set_saved_order(pol_job *r, const int32_t *order);
/* POL_EFORMAT where numbers of r->ck, just read, are none that a run of these settings can have. */
pol_status pol_job_check_state(const pol_job *r);
pol_status pol_job_first_checkpoint(pol_job *r);
pol_status pol_job_write_checkpoint(pol_job *r);
int64_t pol_job_done_steps(const pol_job *r);
pol_stage_result pol_job_stage_result(const pol_job *r, pol_stage_kind stage);

/* run.json with what is known so far; and taking up a run whose record is `old`. */
pol_status pol_job_new_json(pol_job *r, const json_t *old);
pol_status pol_job_write_json(pol_job *r, const char *status);
pol_status pol_job_read_results(pol_job *r, const json_t *old);
/* Keeps the devices that the run has been on before; one that goes on with another kind is said to. That is no
 * obstacle, but no number is then what one kind alone would have given. How many of a kind there are plays no part. */
pol_status pol_job_note_devices(pol_job *r, const json_t *old);

#endif

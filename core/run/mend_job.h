/* mend_job.h - a call of pol_repair() under way. */
#ifndef POL_MEND_JOB_H
#define POL_MEND_JOB_H

#include "core/run/mend.h"
#include "core/run/run.h"

typedef struct pol_mending {
    pol_context *ctx;
    pol_repair_request o; /* resolved */
    const pol_repair_observer *watch;
    pol_repair_result *result;
    pol_target target; /* of a run; else what the mask gives */
    pol_run_folder folder;
    pol_tokenizer *tok;
    pol_sequences text, eval; /* text: those that are looked at, then the held-out ones */
    int64_t looked_at;
    pol_backend **devices;
    int64_t n_devices;
    pol_backend *host;  /* opened beside the devices; NULL: the first of them can repair */
    pol_memory *memory; /* [n_devices] */
    int64_t max_tokens, max_seq_len;
    pol_replicas replicas;
    double *loss; /* [held_out] */
    double started;
    json_t *json; /* run.json */
    bool begun;   /* there is something that a later call can go on with */
} pol_mending;

/* Of run.json: what the repair is made of, and what came of it. */
pol_status pol_mending_record(pol_mending *w);
pol_status pol_mending_write(pol_mending *w, const char *status);

#endif

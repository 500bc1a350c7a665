/* allocation_run.h - runs of the default method through all its stages, to be ended in the middle. */
#ifndef POL_TEST_ALLOCATION_RUN_H
#define POL_TEST_ALLOCATION_RUN_H

#include "tests/cli/same_run.h"
#include "tests/cli/stopping.h"

#define SETTINGS                                                                                                     \
    "@model --data @calibration --keep 0.6 --seq-len 32 --passes 2700 --no-pilot --candidates 32 --mask-samples 24 " \
    "--held-out 16 --repair-sequences 64 --eval @held-out --eval-limit 8 --threads 1 "

static inline void make_whole(cli *t, const char *options)
{
    char call[512];
    snprintf(call, sizeof call, "prune " SETTINGS "%s --quiet --out @/whole", options);
    assert_call(t, 0, call);
}

static inline void assert_same_end(const cli *t, const char *run)
{
    char name[64];
    assert_same_run(t, "whole", run);
    snprintf(name, sizeof name, "%s/repaired.safetensors", run);
    assert_same_file(t, "whole/repaired.safetensors", name);
    snprintf(name, sizeof name, "%s/database.bin", run);
    assert_false(there(t, name));
}

#endif

/* conformance.h - the table of cases that every op of every backend must pass, and running one of them. */
#ifndef POL_TEST_CONFORMANCE_H
#define POL_TEST_CONFORMANCE_H

#include "tests/ops/rig.h"

/* The letters of core/backend.h; what an op does not take stays 0. */
typedef struct op_case {
    const char *op;
    int64_t T, S, C, N, G, g, D, V;
    int64_t kept, padded, window, slice, pairs, k, M, calls;
    bool bias;
} op_case;

extern const op_case op_cases[];
extern const size_t n_op_cases;

/* Runs the case on `be` and on the reference, and fails the test where they differ by more than the op's tolerance. */
void check_case(const op_case *c, pol_backend *be, pol_backend *reference);

#endif

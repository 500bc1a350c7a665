/* rig.h - one call of one op on one backend, with every tensor fenced.
 *
 * Tensors are filled from a counter-based generator in the order in which they are asked for, so two rigs that ask
 * alike hold the same numbers. Each lies between two fences of NaN (of impossible ids for i32), off alignment: a read
 * beyond the operand shows as NaN in the result, a write beyond it as a broken fence when the rig is closed. Matrices
 * of weights are buffers of several rows, as a model's are, and their fences whole rows.
 */
#ifndef POL_TEST_RIG_H
#define POL_TEST_RIG_H

#include "core/backend.h"
#include "tests/test.h"

typedef struct rig {
    pol_context *ctx;
    pol_backend *be;
    /* Values of weights and of activations are ones that these types have: the backend's, or of one compared with. */
    pol_dtype weights, acts;
    struct {
        pol_view v;
        int64_t n, fence;
    } made[16];
    int n_made;
} rig;

rig rig_open(pol_backend *be);
void rig_close(rig *r); /* checks the fences */

/* Normal numbers times `scale`, in a buffer of the given type: what the op's operand must have (core/backend.h). */
pol_view rig_normal(rig *r, pol_dtype dtype, int64_t n, double scale);
/* The same as weights [rows,row], and as activations between ops. */
pol_view rig_weights(rig *r, int64_t rows, int64_t row, double scale);
pol_view rig_acts(rig *r, int64_t n, double scale);
pol_view rig_values(rig *r, pol_dtype dtype, int64_t n, const float *values);
pol_view rig_zero(rig *r, pol_dtype dtype, int64_t n);
/* Ids in [low, high]. */
pol_view rig_ids(rig *r, int64_t n, int32_t low, int32_t high);
/* Cosines and sines of S positions, as core/model makes them: theta 10000. */
pol_view rig_cos_sin(rig *r, int64_t S, int64_t D);

/* n elements of a view as doubles. */
void rig_read(rig *r, pol_view v, int64_t n, double *out);

#endif

/* rounding_cpu.h - the CPU as a device that keeps weights, and what ops leave to each other, in bf16, rounded in the
 * same places as the CUDA backend does: for numbers to hold a simulated device's against. Sums are the CPU's own.
 */
#ifndef POL_TEST_CUDA_ROUNDING_CPU_H
#define POL_TEST_CUDA_ROUNDING_CPU_H

#include "core/model/half.h"
#include "core/model/weights.h"
#include "tests/loaded_model.h"

static const pol_ops *rounding_real; /* the CPU's */

/* A view's n numbers, rounded; with a bias, which is absent or [width], rounded, added and rounded again. */
static inline pol_status round_numbers(pol_backend *be, pol_view v, int64_t n, pol_view bias, int64_t width)
{
    float *x = malloc((size_t)n * sizeof *x), *b = calloc((size_t)width, sizeof *b);
    assert_ok(be->ctx, pol_download(be, v.buf, v.at, x, n));
    if (bias.buf)
        assert_ok(be->ctx, pol_download(be, bias.buf, bias.at, b, width));
    for (int64_t i = 0; i < n; i++)
        x[i] = pol_bf16_to_f32(pol_f32_to_bf16(pol_bf16_to_f32(pol_f32_to_bf16(x[i])) + b[i % width]));
    assert_ok(be->ctx, pol_upload(be, v.buf, v.at, x, n));
    free(x);
    free(b);
    return POL_OK;
}

static inline pol_status rounded(pol_backend *be, pol_view v, int64_t n)
{
    return round_numbers(be, v, n, (pol_view){NULL, 0}, 1);
}

static inline pol_status rounding_rmsnorm(pol_backend *be, const pol_rmsnorm_args *a)
{
    POL_TRY(rounding_real->rmsnorm(be, a));
    return rounded(be, a->y, a->T * a->C);
}

static inline pol_status rounding_project(pol_backend *be, const pol_project_args *a)
{
    pol_project_args product = *a;
    product.bias = (pol_view){NULL, 0};
    POL_TRY(rounding_real->project(be, &product));
    return round_numbers(be, a->y, a->T * a->N, a->bias, a->N);
}

static inline pol_status rounding_rope(pol_backend *be, const pol_rope_args *a)
{
    POL_TRY(rounding_real->rope(be, a));
    return rounded(be, a->qkv, a->T * a->G * (a->g + 2) * a->D);
}

static inline pol_status rounding_attention(pol_backend *be, const pol_attention_args *a)
{
    POL_TRY(rounding_real->attention(be, a));
    return rounded(be, a->out, a->T * a->G * a->g * a->D);
}

static inline pol_status rounding_swiglu(pol_backend *be, const pol_swiglu_args *a)
{
    POL_TRY(rounding_real->swiglu(be, a));
    return rounded(be, a->h, a->T * a->padded);
}

/* In one kernel gate and up are never written. */
static inline pol_status rounding_project_swiglu(pol_backend *be, const pol_project_swiglu_args *a)
{
    POL_TRY(rounding_real->project(be, &(pol_project_args){.y = a->gu,
                                                           .x = a->x,
                                                           .w = a->w,
                                                           .bias = a->bias,
                                                           .scratch = a->scratch,
                                                           .T = a->T,
                                                           .N = 2 * a->padded,
                                                           .C = a->C}));
    return rounding_swiglu(be,
                           &(pol_swiglu_args){.h = a->h, .gu = a->gu, .T = a->T, .kept = a->kept, .padded = a->padded});
}

/* From here on a CPU rounds what its ops leave. `ops` must outlive it; one such CPU at a time. */
static inline void round_activations(pol_backend *cpu, bool fused, pol_ops *ops)
{
    rounding_real = cpu->ops;
    *ops = *cpu->ops;
    ops->rmsnorm = rounding_rmsnorm;
    ops->project = rounding_project;
    ops->rope = rounding_rope;
    ops->attention = rounding_attention;
    ops->swiglu = rounding_swiglu;
    ops->project_swiglu = fused ? rounding_project_swiglu : NULL;
    cpu->ops = ops;
}

/* Of a resident model on a CPU. Matrices alone: gains and biases are f32 on every device. */
static inline void round_weights(loaded *m)
{
    const pol_model *of = m->model;
    const int32_t layers = of->config.n_layers;
    for (int32_t l = 0; l <= layers; l++) {
        const pol_layer_weights *w = &of->layers[l % layers];
        pol_buf *const ends[4] = {of->embed, of->output == of->embed ? NULL : of->output};
        pol_buf *const parts[4] = {w->w_qkv, w->w_o, w->w_gate_up, w->w_down};
        for (int i = 0; i < 4; i++) {
            pol_buf *b = l < layers ? parts[i] : ends[i];
            if (b)
                assert_ok(m->ctx, rounded(m->be, (pol_view){b, 0}, b->n));
        }
    }
}

#endif

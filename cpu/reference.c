/* reference.c - every op as its formula reads: plain loops, one thread, double sums. Right by definition, not fast.
 *
 * The conformance tests compare each backend with these. Letters and layouts: core/backend.h.
 */
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

pol_status embed_reference(pol_backend *be, const pol_embed_args *a)
{
    (void)be;
    for (int64_t t = 0; t < a->T; t++)
        for (int64_t c = 0; c < a->C; c++)
            cpu_f32(a->x)[t * a->C + c] = cpu_f32(a->table)[cpu_i32(a->ids)[t] * a->C + c];
    return POL_OK;
}

pol_status rmsnorm_reference(pol_backend *be, const pol_rmsnorm_args *a)
{
    (void)be;
    for (int64_t t = 0; t < a->T; t++) {
        const float *x = cpu_f32(a->x) + t * a->C;
        const double scale = 1.0 / sqrt(dot(x, x, a->C) / (double)a->C + a->eps);
        for (int64_t c = 0; c < a->C; c++)
            cpu_f32(a->y)[t * a->C + c] = (float)(x[c] * scale * cpu_f32(a->gain)[c]);
    }
    return POL_OK;
}

pol_status project_reference(pol_backend *be, const pol_project_args *a)
{
    (void)be;
    for (int64_t t = 0; t < a->T; t++)
        for (int64_t n = 0; n < a->N; n++)
            cpu_f32(a->y)[t * a->N + n] = (float)(dot(cpu_f32(a->x) + t * a->C, cpu_f32(a->w) + n * a->C, a->C) +
                                                  (a->bias.buf ? cpu_f32(a->bias)[n] : 0));
    return POL_OK;
}

pol_status project_add_reference(pol_backend *be, const pol_project_add_args *a)
{
    (void)be;
    for (int64_t t = 0; t < a->T; t++)
        for (int64_t c = 0; c < a->C; c++) {
            double sum = a->bias.buf ? cpu_f32(a->bias)[c] : 0;
            for (int64_t n = 0; n < a->N; n++)
                sum += (double)cpu_f32(a->h)[t * a->N + n] * cpu_f32(a->w)[n * a->C + c];
            float *x = cpu_f32(a->x) + t * a->C + c;
            *x = (float)(*x + sum);
        }
    return POL_OK;
}

pol_status rope_reference(pol_backend *be, const pol_rope_args *a)
{
    (void)be;
    const int64_t half = a->D / 2, heads = a->g + 2;
    for (int64_t t = 0; t < a->T; t++) {
        const float *cosine = cpu_f32(a->cos_sin) + t % a->S * a->D, *sine = cosine + half;
        for (int64_t i = 0; i < a->G; i++)
            for (int64_t j = 0; j < a->g + 1; j++) { /* the query heads, then the key; the value stays */
                float *x = cpu_f32(a->qkv) + ((t * a->G + i) * heads + j) * a->D;
                for (int64_t d = 0; d < half; d++) {
                    const double u = x[d], v = x[d + half];
                    x[d] = (float)(u * cosine[d] - v * sine[d]);
                    x[d + half] = (float)(v * cosine[d] + u * sine[d]);
                }
            }
    }
    return POL_OK;
}

/* One query row against the keys first..last of its sequence; `score` has room for a sequence. */
static void attend(const pol_attention_args *a, int64_t start, int64_t p, int64_t i, int64_t j, double *score)
{
    const int64_t group = (a->g + 2) * a->D, row = a->G * group;
    const float *qkv = cpu_f32(a->qkv) + start * row + i * group;
    const float *q = qkv + p * row + j * a->D, *k = qkv + a->g * a->D, *v = k + a->D;
    const int64_t first = a->window > 0 ? pol_max_i64(0, p - a->window + 1) : 0;
    double max = -INFINITY, sum = 0;
    for (int64_t s = first; s <= p; s++) {
        score[s] = dot(q, k + s * row, a->D) * a->scale;
        max = fmax(max, score[s]);
    }
    for (int64_t s = first; s <= p; s++)
        sum += score[s] = exp(score[s] - max);
    for (int64_t d = 0; d < a->D; d++) {
        double out = 0;
        for (int64_t s = first; s <= p; s++)
            out += score[s] * v[s * row + d];
        cpu_f32(a->out)[(((start + p) * a->G + i) * a->g + j) * a->D + d] = (float)(out / sum);
    }
}

pol_status attention_reference(pol_backend *be, const pol_attention_args *a)
{
    double *score = pol_alloc_array(be->ctx, a->S, sizeof *score);
    if (!score)
        return POL_ENOMEM;
    for (int64_t start = 0; start < a->T; start += a->S)
        for (int64_t p = 0; p < a->S; p++)
            for (int64_t i = 0; i < a->G; i++)
                for (int64_t j = 0; j < a->g; j++)
                    attend(a, start, p, i, j, score);
    pol_free(be->ctx, score);
    return POL_OK;
}

int64_t attention_scratch_reference(pol_backend *be, int64_t T, int64_t S, int64_t G, int64_t g, int64_t D)
{
    (void)be, (void)T, (void)S, (void)G, (void)g, (void)D;
    return 0;
}

pol_status swiglu_reference(pol_backend *be, const pol_swiglu_args *a)
{
    (void)be;
    for (int64_t t = 0; t < a->T; t++)
        for (int64_t i = 0; i < a->padded; i++) {
            const int64_t at = t * a->padded + i;
            const double gate = cpu_f32(a->gu)[2 * at], up = cpu_f32(a->gu)[2 * at + 1];
            cpu_f32(a->h)[at] = i < a->kept ? (float)(gate / (1.0 + exp(-gate)) * up) : 0.0f;
        }
    return POL_OK;
}

pol_status nll_reference(pol_backend *be, const pol_nll_args *a)
{
    double *logit = pol_alloc_array(be->ctx, a->V, sizeof *logit);
    if (!logit)
        return POL_ENOMEM;
    for (int64_t t = 0; t < a->T; t++) {
        double max = -INFINITY, sum = 0;
        for (int64_t v = 0; v < a->V; v++) {
            logit[v] = dot(cpu_f32(a->x) + t * a->C, cpu_f32(a->w) + v * a->C, a->C);
            max = fmax(max, logit[v]);
        }
        for (int64_t v = 0; v < a->V; v++)
            sum += exp(logit[v] - max);
        for (int64_t i = t * a->k; i < (t + 1) * a->k; i++) {
            const int32_t target = cpu_i32(a->target)[i];
            cpu_f32(a->nll)[i] = target < 0 ? 0.0f : (float)(max + log(sum) - logit[target]);
        }
    }
    pol_free(be->ctx, logit);
    return POL_OK;
}

int64_t nll_scratch_reference(pol_backend *be, int64_t T, int64_t C, int64_t slice)
{
    (void)be, (void)T, (void)C, (void)slice;
    return 0;
}

static void swap_in_buffer(const pol_swap_args *a)
{
    const size_t bytes = (size_t)a->unit * pol_dtype_size(a->w.buf->dtype);
    for (int64_t i = 0; i < a->n_pairs; i++)
        for (size_t j = 0; j < bytes; j++) {
            unsigned char *u = cpu_bytes(a->w) + (size_t)a->a[i] * bytes + j,
                          *v = cpu_bytes(a->w) + (size_t)a->b[i] * bytes + j;
            const unsigned char kept = *u;
            *u = *v;
            *v = kept;
        }
}

pol_status swap_units_reference(pol_backend *be, const pol_swap_args *a, int64_t n)
{
    (void)be;
    for (int64_t i = 0; i < n; i++)
        if (a[i].n_pairs)
            swap_in_buffer(&a[i]);
    return POL_OK;
}

pol_status activation_stats_reference(pol_backend *be, const pol_activation_stats_args *a)
{
    (void)be;
    for (int64_t n = 0; n < a->N; n++) {
        double sum = 0, sumsq = 0;
        for (int64_t t = 0; t < a->T; t++) {
            const double x = cpu_f32(a->x)[t * a->N + n];
            sum += x;
            sumsq += x * x;
        }
        cpu_f32(a->sum)[n] = (float)sum;
        cpu_f32(a->sumsq)[n] = (float)sumsq;
    }
    return POL_OK;
}

/* Adds the inner product of two columns to the pair of a matrix at `high` and of its twin at `low`. */
static void add_columns(float *high, float *low, const float *x, int64_t x_row, const float *y, int64_t y_row,
                        int64_t T)
{
    double sum = (double)*high + *low;
    for (int64_t t = 0; t < T; t++)
        sum += (double)x[t * x_row] * y[t * y_row];
    *high = (float)sum;
    *low = (float)(sum - *high);
}

pol_status gram_reference(pol_backend *be, const pol_gram_args *a)
{
    (void)be;
    const int64_t N = a->N, M = a->M;
    const float *x = cpu_f32(a->x), *y = cpu_f32(a->y);
    float *xx = cpu_f32(a->a), *xy = cpu_f32(a->b);
    for (int64_t i = 0; i < N; i++) {
        for (int64_t j = 0; j <= i; j++)
            add_columns(xx + i * N + j, xx + (N + i) * N + j, x + i, N, x + j, N, a->T);
        for (int64_t j = 0; j < M; j++)
            add_columns(xy + i * M + j, xy + (N + i) * M + j, x + i, N, y + j, M, a->T);
    }
    return POL_OK;
}

int64_t gram_scratch_reference(pol_backend *be, int64_t T, int64_t N, int64_t M)
{
    (void)be, (void)T, (void)N, (void)M;
    return 0;
}

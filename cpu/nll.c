/* nll.c - logits of one slice of the vocabulary at a time, each folded at once into a running maximum and sum.
 *
 * For a row, after each slice: sum = sum over the logits seen of exp(logit - max). A larger maximum rescales the sum
 * (Milakov and Gimelshein 2018, arXiv 1805.02867). Exponentials are f32, summed in f32 over SUM_CHUNK at a time and in
 * double from there on.
 */
#include "cpu/gemm.h"
#include "cpu/simd.h"

enum { SUM_CHUNK = 1024 };

typedef struct running {
    double sum;
    float max;
} running;

CPU_CLONES static void add_logits(running *r, const float *restrict logit, int64_t n)
{
    const float slice_max = cpu_max(logit, n);
    if (slice_max > r->max) {
        r->sum *= exp((double)r->max - slice_max);
        r->max = slice_max;
    }
    const float max = r->max;
    for (int64_t first = 0; first < n; first += SUM_CHUNK) {
        const int64_t end = pol_min_i64(first + SUM_CHUNK, n);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = first; i < end; i++)
            sum += cpu_expf(logit[i] - max);
        r->sum += sum;
    }
}

/* The logits of those targets that are among the n rows from `first`. */
static void take_targets(float *nll, const int32_t *target, int64_t k, const float *logit, int64_t first, int64_t n)
{
    for (int64_t j = 0; j < k; j++)
        if (target[j] >= first && target[j] < first + n)
            nll[j] = logit[target[j] - first];
}

/* The logits of a slice. */
int64_t nll_scratch_cpu(pol_backend *be, int64_t T, int64_t C, int64_t slice)
{
    (void)be, (void)C;
    return pol_mul_count(T, slice);
}

/* Until the last slice has been by, nll holds the logits of the targets. */
pol_status nll_cpu(pol_backend *be, const pol_nll_args *a)
{
    const int64_t T = a->T, k = a->k;
    const int32_t *target = cpu_i32(a->target);
    float *logits = cpu_f32(a->scratch), *nll = cpu_f32(a->nll);
    running *rows = pol_alloc_array(be->ctx, T, sizeof *rows);
    if (!rows)
        return POL_ENOMEM;
    for (int64_t t = 0; t < T; t++)
        rows[t] = (running){.sum = 0, .max = -INFINITY};
    pol_status s = POL_OK;
    for (int64_t first = 0; first < a->V && s == POL_OK; first += a->slice) {
        const int64_t n = pol_min_i64(a->slice, a->V - first);
        s = cpu_gemm(be, CPU_ROWS_OUT, T, n, a->C, cpu_f32(a->x), cpu_f32(a->w) + first * a->C, 0.0f, logits, n);
#pragma omp parallel for num_threads(cpu_threads(be)) if (T * n > CPU_PARALLEL_MIN)
        for (int64_t t = 0; t < T; t++) {
            add_logits(&rows[t], logits + t * n, n);
            take_targets(nll + t * k, target + t * k, k, logits + t * n, first, n);
        }
    }
    for (int64_t i = 0; i < T * k; i++)
        nll[i] = target[i] < 0 ? 0.0f : (float)(rows[i / k].max - (double)nll[i] + log(rows[i / k].sum));
    pol_free(be->ctx, rows);
    return s;
}

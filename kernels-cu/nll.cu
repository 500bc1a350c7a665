/* nll.cu - folds the logits of one slice of the vocabulary into what is kept of each token, a block a token, which
 * reads every logit once: the largest so far, the sum over all so far of exp(logit - largest). A larger maximum
 * rescales the sum (Milakov and Gimelshein 2018, arXiv 1805.02867), in a thread as between slices. Until the last slice
 * has been by, nll holds the targets' logits.
 *
 * A logit that is NaN is never the largest, but makes the sum NaN and so the nll; so does one of +inf. One of -inf has
 * no share.
 */
#include "kernels-cu/rows.cuh"

enum { NLL_THREADS = 256, WORD = 4, WORD_BYTES = 16, AHEAD = 4 };
enum { LARGEST, SUM, KEPT };

struct running {
    float largest, sum;
};

/* What exponents are taken from: where all is -inf, -inf - -inf would be NaN. */
static __device__ __forceinline__ float origin(float largest) { return largest == -INFINITY ? 0.0f : largest; }

template <int N> static __device__ __forceinline__ void add(running &r, const float (&logit)[N])
{
    float largest = r.largest, sum = 0;
    for (int k = 0; k < N; k++)
        largest = fmaxf(largest, logit[k]);
    if (largest > r.largest) {
        r.sum *= expf(r.largest - largest);
        r.largest = largest;
    }
    for (int k = 0; k < N; k++)
        sum += expf(logit[k] - origin(largest));
    r.sum += sum;
}

/* Of n logits those that come before the first at a multiple of a word's size. */
static __device__ __forceinline__ int64_t before_words(const float *logit, int64_t n)
{
    const int64_t past = (int64_t)((uintptr_t)logit % WORD_BYTES / sizeof *logit);
    return min(n, (WORD - past) % WORD);
}

/* This thread's share of n logits: words, AHEAD at a time, and at most one of what lies before and after them. */
static __device__ __forceinline__ running share(const float *logit, int64_t n)
{
    running r = {-INFINITY, 0.0f};
    const int64_t first = before_words(logit, n), end = first + (n - first) / WORD * WORD, step = blockDim.x * WORD;
    int64_t i = first + threadIdx.x * WORD;
    float ahead[AHEAD][WORD], one[1];
    for (; i + (AHEAD - 1) * step < end; i += AHEAD * step) {
#pragma unroll
        for (int w = 0; w < AHEAD; w++)
            load(logit + i + w * step, ahead[w]);
#pragma unroll
        for (int w = 0; w < AHEAD; w++)
            add(r, ahead[w]);
    }
    for (; i < end; i += step) {
        load(logit + i, ahead[0]);
        add(r, ahead[0]);
    }
    const int64_t lone = threadIdx.x < first ? threadIdx.x : end + threadIdx.x - first;
    if (threadIdx.x < first + n - end) {
        load(logit + lone, one);
        add(r, one);
    }
    return r;
}

/* What was kept is read before the barriers of block_max() and written after them. */
static __global__ void nll(cu_nll a)
{
    const shared_array<float> part = shared_memory<float>(0, NLL_THREADS / WARP);
    const float *logit = a.logits + blockIdx.x * a.n;
    float *kept = a.kept + (int64_t)blockIdx.x * KEPT;
    const float before = a.first > 0 ? kept[LARGEST] : -INFINITY, sum_before = a.first > 0 ? kept[SUM] : 0.0f;
    const running mine = share(logit, a.n);
    const float here = block_max(mine.largest, part);
    const float sum_here = block_sum(mine.sum * expf(mine.largest - origin(here)), part);
    const float largest = fmaxf(here, before);
    const float sum = sum_here * expf(here - origin(largest)) + sum_before * expf(before - origin(largest));
    for (int64_t j = threadIdx.x; j < a.k; j += NLL_THREADS) {
        float *nll = a.nll + blockIdx.x * a.k + j;
        const int64_t target = a.target[blockIdx.x * a.k + j], at = target - a.first;
        const float hit = at >= 0 && at < a.n ? logit[at] : a.first > 0 ? *nll : NAN;
        *nll = !a.last ? hit : target < 0 ? 0.0f : largest - hit + logf(sum);
    }
    if (threadIdx.x == 0) {
        kept[LARGEST] = largest;
        kept[SUM] = sum;
    }
}

extern "C" cudaError_t pol_cu_nll(cudaStream_t stream, const cu_nll *a)
{
    return launch(nll, dim3((unsigned)a->T), dim3(NLL_THREADS), NLL_THREADS / WARP * sizeof(float), stream, *a);
}

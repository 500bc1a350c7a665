/* nll.cu - folds the logits of one slice of the vocabulary into what is kept of each token, a block a token, which
 * reads every logit once: the largest so far, the sum over all so far of exp(logit - largest), the target's logit. A
 * larger maximum rescales the sum (Milakov and Gimelshein 2018, arXiv 1805.02867), in a thread as between slices.
 *
 * A logit that is NaN is never the largest, but makes the sum NaN and so the nll; so does one of +inf. One of -inf has
 * no share.
 */
#include "kernels-cu/rows.cuh"

enum { NLL_THREADS = 256, WORD = 4, WORD_BYTES = 16, AHEAD = 4 };
enum { LARGEST, SUM, TARGET, KEPT };

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

static __global__ void nll(cu_nll a)
{
    const shared_array<float> part = shared_memory<float>(0, NLL_THREADS / WARP);
    const float *logit = a.logits + blockIdx.x * a.n;
    const running mine = share(logit, a.n);
    const float slice_largest = block_max(mine.largest, part);
    const float slice_sum = block_sum(mine.sum * expf(mine.largest - origin(slice_largest)), part);
    if (threadIdx.x > 0)
        return;
    float *kept = a.kept + (int64_t)blockIdx.x * KEPT, largest = slice_largest, sum = slice_sum, hit = NAN;
    if (a.first > 0) {
        largest = fmaxf(largest, kept[LARGEST]);
        sum = sum * expf(slice_largest - origin(largest)) + kept[SUM] * expf(kept[LARGEST] - origin(largest));
        hit = kept[TARGET];
    }
    const int64_t target = a.target[blockIdx.x], at = target - a.first;
    if (at >= 0 && at < a.n)
        hit = logit[at];
    kept[LARGEST] = largest;
    kept[SUM] = sum;
    kept[TARGET] = hit;
    if (a.last)
        a.nll[blockIdx.x] = target < 0 ? 0.0f : largest - hit + logf(sum);
}

extern "C" cudaError_t pol_cu_nll(cudaStream_t stream, const cu_nll *a)
{
    return launch(nll, dim3((unsigned)a->T), dim3(NLL_THREADS), NLL_THREADS / WARP * sizeof(float), stream, *a);
}

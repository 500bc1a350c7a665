/* nll.cl - folds the logits of one slice of the vocabulary into what is kept of each token: the largest logit so far,
 * and the sum over all so far of exp(logit - largest). A larger maximum rescales the sum (Milakov and Gimelshein 2018,
 * arXiv 1805.02867). The logit of a target waits where its nll will be, from the slice that has it to the last; then
 * nll = largest - logit + log(sum), 0 for target -1.
 *
 * A logit that is NaN is never the largest, but makes the sum NaN and so every nll of its token. Sums are f32: of a few
 * hundred terms at most, then of such sums.
 */
enum { LARGEST, SUM };

static inline float largest_before(global const float *kept, const nll_args *a)
{
    return a->first > 0 ? kept[LARGEST] : -INFINITY;
}

/* The sum over the slices before this one, taken with the new `largest`. */
static inline float sum_before(global const float *kept, const nll_args *a, float largest)
{
    return a->first > 0 ? kept[SUM] * exp(kept[LARGEST] - largest) : 0;
}

/* `largest` and `sum`: over this slice and those before. */
static inline void meet_target(global float *nll, global const float *logit, int target, const nll_args *a,
                               float largest, float sum)
{
    if (target >= a->first && target - a->first < a->n)
        *nll = logit[target - a->first];
    if (a->last)
        *nll = target < 0 ? 0 : largest - *nll + log(sum);
}

/* One work-item a token. */
kernel void nll_item(global float *nll, global float *scratch, global const int *target, const nll_args a)
{
    enum { TERMS = 64 }; /* of a short sum */
    const int t = get_global_id(0), whole = a.n / VECTOR * VECTOR;
    global const float *logit = scratch + a.logits_at + (long)t * a.n;
    global float *kept = scratch + a.kept_at + (long)t * NLL_KEPT;
    fv most = largest_before(kept, &a);
    for (int i = 0; i < whole; i += VECTOR)
        most = fmax(most, load_v(logit + i));
    float largest = max_v(most), rest = 0;
    for (int i = whole; i < a.n; i++)
        largest = fmax(largest, logit[i]);
    for (int i = whole; i < a.n; i++)
        rest += exp(logit[i] - largest);
    fv sums = 0;
    for (int i = 0; i < whole;) {
        const int end = min(whole - i, TERMS * VECTOR) + i;
        fv terms = 0;
        for (; i < end; i += VECTOR)
            terms += exp(load_v(logit + i) - largest);
        sums += terms;
    }
    const float sum = rest + sum_v(sums) + sum_before(kept, &a, largest);
    kept[LARGEST] = largest;
    kept[SUM] = sum;
    nll += a.nll_at + (long)t * a.k;
    target += a.target_at + (long)t * a.k;
    for (int j = 0; j < a.k; j++)
        meet_target(nll + j, logit, target[j], &a, largest, sum);
}

#if GROUP
/* One work-group a token. The sum of the slices before goes with one item's terms, so that all know the whole. */
kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void nll_group(global float *nll, global float *scratch,
                                                                         global const int *target, const nll_args a)
{
    local float part[GROUP];
    const int t = get_group_id(0), item = get_local_id(0);
    global const float *logit = scratch + a.logits_at + (long)t * a.n;
    global float *kept = scratch + a.kept_at + (long)t * NLL_KEPT;
    float most = item == 0 ? largest_before(kept, &a) : -INFINITY, terms = 0;
    for (int i = item; i < a.n; i += GROUP)
        most = fmax(most, logit[i]);
    const float largest = group_max(most, part);
    for (int i = item; i < a.n; i += GROUP)
        terms += exp(logit[i] - largest);
    if (item == 0)
        terms += sum_before(kept, &a, largest);
    const float sum = group_sum(terms, part);
    if (item == 0) {
        kept[LARGEST] = largest;
        kept[SUM] = sum;
    }
    nll += a.nll_at + (long)t * a.k;
    target += a.target_at + (long)t * a.k;
    for (int j = item; j < a.k; j += GROUP)
        meet_target(nll + j, logit, target[j], &a, largest, sum);
}
#endif

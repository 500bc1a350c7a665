/* attention.cl - causal attention over fused rows. The rows of a (sequence, group) are its positions' query heads: row
 * r is head r % g at position r / g, and all of them share the group's keys and values.
 *
 * Keys go by in blocks, so memory does not grow with S. A row keeps the largest score so far, the sum of its weights
 * exp(score - largest) and the weighted sum of values; a larger score rescales the two (Milakov and Gimelshein 2018,
 * arXiv 1805.02867). Keys that none of the rows at work sees are never touched. A masked score is -infinity, and the
 * largest starts as the smallest float: a block of which a row sees nothing then adds 0 to it. A score that is NaN is
 * never the largest, but makes the sum NaN.
 *
 *   HEAD   floats of a head
 *   KEYS   keys of a block
 *
 * Dimension 0: the rows, 1: the group, 2: the sequence.
 */

/* Where one (sequence, group) is; strides are from one position to the next. */
typedef struct place {
    global const float *queries, *keys;
    global float *out;
    long stride, out_stride;
} place;

static inline place place_of(global float *out, global const float *qkv, const attention_args *a, long group,
                             long sequence)
{
    const long heads = a->g, first = sequence * a->S;
    place at;
    at.stride = a->G * (heads + 2) * HEAD;
    at.out_stride = a->G * heads * HEAD;
    at.queries = qkv + a->qkv_at + first * at.stride + group * (heads + 2) * HEAD;
    at.keys = at.queries + heads * HEAD; /* the value of a position follows its key */
    at.out = out + a->out_at + first * at.out_stride + group * heads * HEAD;
    return at;
}

#if GROUP == 0
typedef union lanes {
    fv all;
    float of[VECTOR];
} lanes;

/* One work-item for VECTOR rows, a lane each: a key is then read once for all of them, no sum goes across a vector, and
 * HEAD may be anything. Lanes past the last row repeat it and are not stored. */
kernel void attention_item(global float *out, global const float *qkv, const attention_args a)
{
    const place at = place_of(out, qkv, &a, get_global_id(1), get_global_id(2));
    const int rows = a.S * a.g, begin = get_global_id(0) * VECTOR, last_row = min(begin + VECTOR, rows) - 1;
    lanes q[HEAD], ctx[HEAD];
    union {
        iv all;
        int of[VECTOR];
    } position;
    for (int l = 0; l < VECTOR; l++) {
        const int r = min(begin + l, last_row), p = r / a.g;
        global const float *query = at.queries + p * at.stride + (long)(r % a.g) * HEAD;
        position.of[l] = p;
        for (int d = 0; d < HEAD; d++)
            q[d].of[l] = query[d];
    }
    for (int d = 0; d < HEAD; d++)
        ctx[d].all = 0;
    const int last = last_row / a.g;
    const iv p = position.all;
    fv largest = -FLT_MAX, sum = 0;
    for (int k = max(0, begin / a.g - a.window + 1); k <= last; k += KEYS) {
        global const float *key[KEYS];
        fv w[KEYS];
#pragma unroll
        for (int i = 0; i < KEYS; i++) {
            key[i] = at.keys + min(k + i, last) * at.stride;
            w[i] = 0;
        }
        for (int d = 0; d < HEAD; d++) {
            const fv x = q[d].all;
#pragma unroll
            for (int i = 0; i < KEYS; i++)
                w[i] += x * key[i][d];
        }
        fv most = largest;
#pragma unroll
        for (int i = 0; i < KEYS; i++) {
            const iv sees = (k + i <= p) & (k + i > p - a.window);
            w[i] = sees ? a.scale * w[i] : -INFINITY;
            most = fmax(most, w[i]);
        }
        if (any_v(most > largest)) {
            const fv rescale = exp(largest - most);
            largest = most;
            sum *= rescale;
            for (int d = 0; d < HEAD; d++)
                ctx[d].all *= rescale;
        }
        fv weights = 0;
#pragma unroll
        for (int i = 0; i < KEYS; i++) {
            w[i] = exp(w[i] - largest);
            weights += w[i];
        }
        sum += weights;
        for (int d = 0; d < HEAD; d++) {
            fv values = 0;
#pragma unroll
            for (int i = 0; i < KEYS; i++)
                values += w[i] * key[i][HEAD + d];
            ctx[d].all += values;
        }
    }
    for (int d = 0; d < HEAD; d++)
        ctx[d].all /= sum;
    for (int r = begin; r <= last_row; r++)
        for (int d = 0; d < HEAD; d++)
            at.out[r / a.g * at.out_stride + (long)(r % a.g) * HEAD + d] = ctx[d].of[r - begin];
}
#else
#define QUADS ((HEAD + 3) / 4)

/* Floats 4 i .. 4 i + 3 of a head, 0 past its end. */
static inline float4 quad(global const float *head, int i)
{
    const int d = 4 * i;
    return d + 4 <= HEAD ? vload4(0, head + d)
                         : (float4)(head[d], d + 1 < HEAD ? head[d + 1] : 0, d + 2 < HEAD ? head[d + 2] : 0, 0);
}

/* One work-item a row; a work-group brings a block of keys and values to local memory, from where all of its rows read
 * them in step. Work-items past the last row repeat it and store nothing. */
kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void
attention_group(global float *out, global const float *qkv, const attention_args a)
{
    local float4 keys[KEYS][QUADS], values[KEYS][QUADS];
    const place at = place_of(out, qkv, &a, get_group_id(1), get_group_id(2));
    const int rows = a.S * a.g, begin = get_group_id(0) * GROUP, last_row = min(begin + GROUP, rows) - 1;
    const int item = get_local_id(0), r = min(begin + item, last_row), p = r / a.g, last = last_row / a.g;
    const long in_row = (long)(r % a.g) * HEAD;
    float4 q[QUADS], ctx[QUADS];
    for (int i = 0; i < QUADS; i++) {
        q[i] = quad(at.queries + p * at.stride + in_row, i);
        ctx[i] = 0;
    }
    float largest = -FLT_MAX, sum = 0;
    for (int k = max(0, begin / a.g - a.window + 1); k <= last; k += KEYS) {
        barrier(CLK_LOCAL_MEM_FENCE); /* the block before may still be read */
        for (int j = item; j < KEYS * QUADS; j += GROUP) {
            global const float *key = at.keys + min(k + j / QUADS, last) * at.stride;
            keys[j / QUADS][j % QUADS] = quad(key, j % QUADS);
            values[j / QUADS][j % QUADS] = quad(key + HEAD, j % QUADS);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        float w[KEYS], most = largest;
        for (int j = 0; j < KEYS; j++) {
            float4 score = 0;
            for (int i = 0; i < QUADS; i++)
                score += q[i] * keys[j][i];
            const float2 pair = score.lo + score.hi;
            w[j] = k + j <= p && k + j > p - a.window ? a.scale * (pair.x + pair.y) : -INFINITY;
            most = fmax(most, w[j]);
        }
        if (most > largest) {
            const float rescale = exp(largest - most);
            largest = most;
            sum *= rescale;
            for (int i = 0; i < QUADS; i++)
                ctx[i] *= rescale;
        }
        float weights = 0;
        for (int j = 0; j < KEYS; j++) {
            w[j] = exp(w[j] - largest);
            weights += w[j];
        }
        sum += weights;
        for (int i = 0; i < QUADS; i++) {
            float4 of_block = 0;
            for (int j = 0; j < KEYS; j++)
                of_block += w[j] * values[j][i];
            ctx[i] += of_block;
        }
    }
    if (begin + item > last_row)
        return;
    global float *to = at.out + p * at.out_stride + in_row;
    for (int i = 0; i < QUADS; i++) {
        const float4 v = ctx[i] / sum;
        if (4 * i + 4 <= HEAD) {
            vstore4(v, 0, to + 4 * i);
        } else {
            to[4 * i] = v.x;
            if (4 * i + 1 < HEAD)
                to[4 * i + 1] = v.y;
            if (4 * i + 2 < HEAD)
                to[4 * i + 2] = v.z;
        }
    }
}
#endif

/* prelude.cl - stands before every kernel, and after args.h. The host defines:
 *
 *   VECTOR   floats that a work-item takes at a time: 1, 2, 4, 8 or 16
 *   GROUP    work-items of a work-group in kernels that sum over one, a power of two; 0 on a device where barriers are
 *            dear: those kernels are then left out, and a row is summed by one work-item
 *   WEIGHTS  32: f32;  16: f16;  17: bf16, the upper half of an f32 - both kept in ushort, which every device has
 *
 * Kernels come in two variants where they sum over a row: NAME_item, without barriers, and NAME_group.
 */
#if VECTOR == 1
typedef float fv;
typedef int iv;
#define load_v(p) (*(p))
#define store_v(v, p) (*(p) = (v))
#define sum_v(v) (v)
#define max_v(v) (v)
#define any_v(c) (c)
#else
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
typedef JOIN(float, VECTOR) fv;
typedef JOIN(int, VECTOR) iv;
#define load_v(p) JOIN(vload, VECTOR)(0, p) /* any element: vload needs no more alignment than a float's */
#define store_v(v, p) JOIN(vstore, VECTOR)(v, 0, p)
#define any_v(c) any(c)

static inline float sum_2(float2 v) { return v.x + v.y; }
static inline float max_2(float2 v) { return fmax(v.x, v.y); }
#if VECTOR == 2
#define sum_v sum_2
#define max_v max_2
#endif
static inline float sum_4(float4 v) { return sum_2(v.lo + v.hi); }
static inline float max_4(float4 v) { return max_2(fmax(v.lo, v.hi)); }
#if VECTOR == 4
#define sum_v sum_4
#define max_v max_4
#endif
static inline float sum_8(float8 v) { return sum_4(v.lo + v.hi); }
static inline float max_8(float8 v) { return max_4(fmax(v.lo, v.hi)); }
#if VECTOR == 8
#define sum_v sum_8
#define max_v max_8
#endif
#if VECTOR == 16
static inline float sum_v(float16 v) { return sum_8(v.lo + v.hi); }
static inline float max_v(float16 v) { return max_8(fmax(v.lo, v.hi)); }
#endif
#endif

/* The first n floats of a vector, where there may be fewer than VECTOR or none; the others read as 0, and are not
 * written. */
static inline fv load_n(global const float *p, int n)
{
    if (n >= VECTOR)
        return load_v(p);
    float part[VECTOR];
    for (int i = 0; i < VECTOR; i++)
        part[i] = i < n ? p[i] : 0;
    return load_v(part);
}

static inline void store_n(fv v, global float *p, int n)
{
    if (n >= VECTOR) {
        store_v(v, p);
        return;
    }
    float part[VECTOR];
    store_v(v, part);
    for (int i = 0; i < n; i++)
        p[i] = part[i];
}

#if WEIGHTS == 32
typedef float weight;
#define widen(w) (w)
#elif WEIGHTS == 16
typedef ushort weight;
static inline float widen(weight w)
{
    /* The exponent is rebiased from 15 to 127. Subnormals go by way of an integer: many devices take subnormal floats
     * for 0. */
    const uint bits = w & 0x7fffu;
    const uint special = bits >= 0x7c00u ? 0x7f800000u : 0u; /* infinity, NaN */
    const uint size = bits < 0x0400u ? as_uint((float)bits * 0x1p-24f) : (bits << 13) + (112u << 23);
    return as_float((uint)(w & 0x8000u) << 16 | size | special);
}
#else
typedef ushort weight;
#define widen(w) as_float((uint)(w) << 16)
#endif

#if GROUP
/* The sum, or the largest, of `v` over the work-group, in every work-item of it; `part` has room for GROUP. All
 * work-items must come here. */
static inline float group_sum(float v, local float *part)
{
    const int i = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE); /* part may still be read from the last time */
    part[i] = v;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int n = GROUP / 2; n > 0; n /= 2) {
        if (i < n)
            part[i] += part[i + n];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    return part[0];
}

static inline float group_max(float v, local float *part)
{
    const int i = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    part[i] = v;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int n = GROUP / 2; n > 0; n /= 2) {
        if (i < n)
            part[i] = fmax(part[i], part[i + n]);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    return part[0];
}
#endif

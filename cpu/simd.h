/* simd.h - vector code without intrinsics: what the compiler needs to vectorise loops for the machine it will run on.
 *
 * A function marked CPU_CLONES is compiled once for AVX-512, once for AVX2 and once for the baseline; the loader picks.
 * It must hold its loops itself or call cpu_ inlines: an OpenMP parallel region is moved out of its function and would
 * not be cloned, so such regions call marked functions a row at a time. The clones may differ in the last bit; one
 * machine always runs the same one.
 */
#ifndef POL_CPU_SIMD_H
#define POL_CPU_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/base/base.h"

/* The choice is made by an indirect function, which glibc resolves before a sanitizer's run time is ready. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define CPU_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CPU_SANITIZED 1
#endif
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(CPU_SANITIZED) && (__GNUC__ >= 12 || __clang_major__ >= 14)
#define CPU_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CPU_CLONES
#endif
#define CPU_INLINE static inline __attribute__((always_inline))

/* e^x, within 2e-7 relative, without branches. 0 below -87.33 and infinity above 88.37 (f32 itself ends at 88.72); NaN
 * stays NaN. x = n ln 2 + r, |r| <= ln 2 / 2: n comes out of the low bits of x / ln 2 + 1.5 * 2^23, ln 2 is taken off
 * in two parts, and e^r = 1 + r + r^2 p(r) with the p of degree 4 that has the least relative error (3e-9; fitted by
 * iterated least squares). */
CPU_INLINE float cpu_expf(float x)
{
    const float shift = 0x1.8p23f;
    const float t = x * 0x1.715476p+0f + shift;
    const float n = t - shift;
    const float r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    const float p =
        (((0x1.6a23cep-10f * r + 0x1.123a2p-7f) * r + 0x1.5558f2p-5f) * r + 0x1.555492p-3f) * r + 0x1.fffffcp-2f;
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits = (bits + 127) << 23; /* 2^n */
    float two_n;
    memcpy(&two_n, &bits, sizeof two_n);
    float y = (1.0f + (r + r * r * p)) * two_n;
    y = x < -87.33f ? 0.0f : y;
    return x > 88.37f ? INFINITY : y;
}

/* The largest of x[0, n); -infinity where n is 0. NaN is passed over. Lanes are spelled out: without finite-math flags
 * a compiler may not reorder a maximum. */
CPU_INLINE float cpu_max(const float *x, int64_t n)
{
    enum { LANES = 32 };
    float lane[LANES], max = -INFINITY;
    for (int j = 0; j < LANES; j++)
        lane[j] = -INFINITY;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
#pragma omp simd
        for (int j = 0; j < LANES; j++)
            lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (int j = 0; j < LANES; j++)
        max = lane[j] > max ? lane[j] : max;
    return max;
}

#endif

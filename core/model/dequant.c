/* dequant.c - stored weights to f32.
 *
 * Layouts are those of GGUF files (ggml's block types). In the 32-value types the low nibbles of the 16 bytes are
 * values 0..15 and the high nibbles 16..31. The order of operations is that of the reference decoder, so results are
 * equal to the last bit.
 */
#include "core/model/dequant.h"

#include <string.h>

#include "core/base/endian.h"
#include "core/model/half.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "f32 values are copied out of little-endian files as they are");

static float load_f16(const uint8_t *p) { return pol_f16_to_f32(pol_get_u16le(p)); }

static void decode_f32(const uint8_t *src, int64_t n, float *dst) { memcpy(dst, src, (size_t)n * sizeof *dst); }

static void decode_f16(const uint8_t *src, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = load_f16(src + 2 * i);
}

static void decode_bf16(const uint8_t *src, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = pol_bf16_to_f32(pol_get_u16le(src + 2 * i));
}

/* d, 32 signed bytes: w = d q */
static void decode_q8_0(const uint8_t *src, int64_t n, float *dst)
{
    for (; n > 0; n--, src += 34, dst += 32) {
        const float d = load_f16(src);
        for (int i = 0; i < 32; i++)
            dst[i] = d * (float)(int8_t)src[2 + i];
    }
}

/* d, nibbles: w = d (q - 8) */
static void decode_q4_0(const uint8_t *src, int64_t n, float *dst)
{
    for (; n > 0; n--, src += 18, dst += 32) {
        const float d = load_f16(src);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)((src[2 + i] & 15) - 8);
            dst[i + 16] = d * (float)((src[2 + i] >> 4) - 8);
        }
    }
}

/* d, m, nibbles: w = d q + m */
static void decode_q4_1(const uint8_t *src, int64_t n, float *dst)
{
    for (; n > 0; n--, src += 20, dst += 32) {
        const float d = load_f16(src), m = load_f16(src + 2);
        for (int i = 0; i < 16; i++) {
            dst[i] = d * (float)(src[4 + i] & 15) + m;
            dst[i + 16] = d * (float)(src[4 + i] >> 4) + m;
        }
    }
}

/* d, one fifth bit a value, nibbles: w = d (q - 16) */
static void decode_q5_0(const uint8_t *src, int64_t n, float *dst)
{
    for (; n > 0; n--, src += 22, dst += 32) {
        const float d = load_f16(src);
        const uint32_t high = pol_get_u32le(src + 2);
        for (int i = 0; i < 16; i++) {
            const int lo = (int)(src[6 + i] & 15) | (int)(high >> i & 1) << 4;
            const int hi = (int)(src[6 + i] >> 4) | (int)(high >> (i + 16) & 1) << 4;
            dst[i] = d * (float)(lo - 16);
            dst[i + 16] = d * (float)(hi - 16);
        }
    }
}

/* d, m, one fifth bit a value, nibbles: w = d q + m */
static void decode_q5_1(const uint8_t *src, int64_t n, float *dst)
{
    for (; n > 0; n--, src += 24, dst += 32) {
        const float d = load_f16(src), m = load_f16(src + 2);
        const uint32_t high = pol_get_u32le(src + 4);
        for (int i = 0; i < 16; i++) {
            const int lo = (int)(src[8 + i] & 15) | (int)(high >> i & 1) << 4;
            const int hi = (int)(src[8 + i] >> 4) | (int)(high >> (i + 16) & 1) << 4;
            dst[i] = d * (float)lo + m;
            dst[i + 16] = d * (float)hi + m;
        }
    }
}

/* Scale and minimum of sub-block j of eight, 6 bits each in 12 bytes: the first four are the low bits of bytes 0..7;
 * the last four have their low 4 bits in bytes 8..11 and their high 2 bits on top of bytes 0..7. */
static void k_scale(const uint8_t *sc, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = sc[j] & 63;
        *min = sc[j + 4] & 63;
    } else {
        *scale = (sc[j + 4] & 15) | (sc[j - 4] >> 6) << 4;
        *min = sc[j + 4] >> 4 | (sc[j] >> 6) << 4;
    }
}

/* d, dmin, scales [12], nibbles [128]: sub-blocks 2p and 2p + 1 are the low and high nibbles of bytes 32p..32p + 31;
 * w = (d scale) q - (dmin min) */
static void decode_q4_k(const uint8_t *src, int64_t n, float *dst)
{
    for (; n > 0; n--, src += 144, dst += 256) {
        const float d = load_f16(src), dmin = load_f16(src + 2);
        for (int j = 0; j < 8; j++) {
            const uint8_t *q = src + 16 + 32 * (j / 2);
            const int shift = 4 * (j % 2);
            int scale, min;
            k_scale(src + 4, j, &scale, &min);
            const float a = d * (float)scale, b = dmin * (float)min;
            for (int i = 0; i < 32; i++)
                dst[32 * j + i] = a * (float)(q[i] >> shift & 15) - b;
        }
    }
}

/* As q4_k with 32 bytes of fifth bits before the nibbles: value i of sub-block j has bit j of byte i. */
static void decode_q5_k(const uint8_t *src, int64_t n, float *dst)
{
    for (; n > 0; n--, src += 176, dst += 256) {
        const float d = load_f16(src), dmin = load_f16(src + 2);
        const uint8_t *high = src + 16;
        for (int j = 0; j < 8; j++) {
            const uint8_t *q = src + 48 + 32 * (j / 2);
            const int shift = 4 * (j % 2);
            int scale, min;
            k_scale(src + 4, j, &scale, &min);
            const float a = d * (float)scale, b = dmin * (float)min;
            for (int i = 0; i < 32; i++)
                dst[32 * j + i] = a * (float)((q[i] >> shift & 15) | (high[i] >> j & 1) << 4) - b;
        }
    }
}

/* Low nibbles [128], high pairs of bits [64], signed scales [16], d last. Two halves of 128 values in four quarters t
 * of 32: low bits from byte 32 (t & 1) + i, high bits 2t of byte i; w = (d scale) (q - 32), one scale for 16 values. */
static void decode_q6_k(const uint8_t *src, int64_t n, float *dst)
{
    for (; n > 0; n--, src += 210, dst += 256) {
        const float d = load_f16(src + 208);
        for (int part = 0; part < 8; part++) {
            const int half = part / 4, t = part % 4;
            const uint8_t *low = src + 64 * half + 32 * (t & 1), *high = src + 128 + 32 * half;
            const int shift = t < 2 ? 0 : 4;
            for (int i = 0; i < 32; i++) {
                const int q = (low[i] >> shift & 15) | (high[i] >> 2 * t & 3) << 4;
                const float a = d * (float)(int8_t)src[192 + 2 * part + i / 16];
                dst[32 * part + i] = a * (float)(q - 32);
            }
        }
    }
}

static const struct {
    uint32_t gguf_type;
    const char *safetensors; /* NULL: GGUF only */
    pol_coding coding;
} codings[] = {
    {0, "F32", {"f32", 1, 4, decode_f32}},
    {1, "F16", {"f16", 1, 2, decode_f16}},
    {30, "BF16", {"bf16", 1, 2, decode_bf16}},
    {2, NULL, {"q4_0", 32, 18, decode_q4_0}},
    {3, NULL, {"q4_1", 32, 20, decode_q4_1}},
    {6, NULL, {"q5_0", 32, 22, decode_q5_0}},
    {7, NULL, {"q5_1", 32, 24, decode_q5_1}},
    {8, NULL, {"q8_0", 32, 34, decode_q8_0}},
    {12, NULL, {"q4_k", 256, 144, decode_q4_k}},
    {13, NULL, {"q5_k", 256, 176, decode_q5_k}},
    {14, NULL, {"q6_k", 256, 210, decode_q6_k}},
    {24, "I8", {"i8", 1, 1, NULL}},
    {25, "I16", {"i16", 1, 2, NULL}},
    {26, "I32", {"i32", 1, 4, NULL}},
    {27, "I64", {"i64", 1, 8, NULL}},
    {28, "F64", {"f64", 1, 8, NULL}},
    {UINT32_MAX, "BOOL", {"bool", 1, 1, NULL}},
    {UINT32_MAX, "U8", {"u8", 1, 1, NULL}},
    {UINT32_MAX, "U16", {"u16", 1, 2, NULL}},
    {UINT32_MAX, "U32", {"u32", 1, 4, NULL}},
    {UINT32_MAX, "U64", {"u64", 1, 8, NULL}},
    {UINT32_MAX, "F8_E4M3", {"f8_e4m3", 1, 1, NULL}},
    {UINT32_MAX, "F8_E5M2", {"f8_e5m2", 1, 1, NULL}},
};

const pol_coding *pol_coding_of_gguf(uint32_t type)
{
    for (size_t i = 0; i < sizeof codings / sizeof *codings; i++)
        if (codings[i].gguf_type == type && type != UINT32_MAX)
            return &codings[i].coding;
    return NULL;
}

const pol_coding *pol_coding_of_safetensors(const char *dtype)
{
    for (size_t i = 0; i < sizeof codings / sizeof *codings; i++)
        if (codings[i].safetensors && !strcmp(codings[i].safetensors, dtype))
            return &codings[i].coding;
    return NULL;
}

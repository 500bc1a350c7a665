/* base.h - what every file of the core uses: failing with a sentence, logging, memory. */
#ifndef POL_BASE_H
#define POL_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pollard/context.h"

#if defined(__GNUC__)
#define POL_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define POL_PRINTF(fmt, first)
#endif

#define POL_COUNT(a) (sizeof(a) / sizeof((a)[0]))

static inline int64_t pol_min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t pol_max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

/* Records the sentence in the context and returns `code`, so that a caller writes
 *     return pol_fail(ctx, POL_EFORMAT, "%s: tensor '%s': dtype '%s' is not a float type", file, name, dtype);
 * Name the file, the field and the value; do not say "failed to": the caller knows what it called. */
pol_status pol_fail(pol_context *ctx, pol_status code, const char *fmt, ...) POL_PRINTF(3, 4);

/* Failures while this is on keep the sentence and code that are there: for cleaning up after a failure. */
void pol_mute(pol_context *ctx, bool on);

void pol_log(pol_context *ctx, pol_log_level level, const char *fmt, ...) POL_PRINTF(3, 4);

/* Memory from the context's allocator. pol_alloc(ctx, 0) gives a block that can be freed. On NULL the error has been
 * recorded as POL_ENOMEM with the size. pol_alloc_array checks n * size for overflow; negative n is an error. */
void *pol_alloc(pol_context *ctx, size_t bytes);
void *pol_alloc_zero(pol_context *ctx, size_t bytes);
void *pol_alloc_array(pol_context *ctx, int64_t n, size_t size);
void *pol_realloc(pol_context *ctx, void *block, size_t bytes); /* NULL: old block still valid */
void pol_free(pol_context *ctx, void *block);                    /* takes NULL */
char *pol_strdup(pol_context *ctx, const char *s);
char *pol_strndup(pol_context *ctx, const char *s, size_t n);
char *pol_format(pol_context *ctx, const char *fmt, ...) POL_PRINTF(2, 3);

/* POL_EINTERRUPTED (recorded) where a stop was asked for, else POL_OK: called between the steps of long work. */
pol_status pol_check_stop(pol_context *ctx);

/* Checked arithmetic on sizes from outside: false on overflow. */
static inline bool pol_mul_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool pol_add_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }
/* a * b of counts, neither negative; INT64_MAX where that does not fit, which no size check lets through. */
static inline int64_t pol_mul_count(int64_t a, int64_t b)
{
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

/* A growing byte buffer; zero-initialise with the context set. `data` always has a 0 byte after `len` once non-NULL. */
typedef struct pol_bytes {
    pol_context *ctx;
    char *data;
    size_t len, cap;
} pol_bytes;

pol_status pol_bytes_reserve(pol_bytes *b, size_t more);
pol_status pol_bytes_add(pol_bytes *b, const void *src, size_t n);
pol_status pol_bytes_printf(pol_bytes *b, const char *fmt, ...) POL_PRINTF(2, 3);
void pol_bytes_free(pol_bytes *b);

#endif

/* context.h - one pol_context carries the log sink, the last error, the allocator and the stop request.
 *
 * The library holds no global state, prints nothing and never exits. A context is used by one thread at a time
 * (pol_context_stop excepted); every object made with it borrows it and must be freed before it.
 */
#ifndef POLLARD_CONTEXT_H
#define POLLARD_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "pollard/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pol_context pol_context;

/* How often a line of a level may come: error - the call will fail; warn - the result is right, but slower or
 * smaller than asked; info - once per run; debug - once per optimiser step; trace - once per op. */
typedef enum pol_log_level {
    POL_LOG_ERROR = 0,
    POL_LOG_WARN,
    POL_LOG_INFO,
    POL_LOG_DEBUG,
    POL_LOG_TRACE
} pol_log_level;

/* `line` is one line without newline, valid during the call only. */
typedef void (*pol_log_fn)(void *user, pol_log_level level, const char *line);

/* All three must be given together. `realloc` is called as realloc(user, NULL, n) for a new block. Blocks are aligned
 * as malloc aligns. Memory that a device driver or a third-party library takes for itself is not routed through it. */
typedef struct pol_allocator {
    void *user;
    void *(*realloc)(void *user, void *block, size_t bytes);
    void (*free)(void *user, void *block);
} pol_allocator;

/* On success *out is yours: pol_context_free(). `a` may be NULL (the C library's allocator); it is copied. */
POL_API pol_status pol_context_new(const pol_allocator *a, pol_context **out);
POL_API void pol_context_free(pol_context *ctx); /* takes NULL */

/* Lines of `level` and below reach `fn`; NULL (the start) silences the library. */
POL_API void pol_context_log(pol_context *ctx, pol_log_fn fn, void *user, pol_log_level level);

/* The last failure of a call made with this context: one line naming file, field and value. "" where none was.
 * Lives until the next failing call. */
POL_API const char *pol_error_text(const pol_context *ctx);
POL_API pol_status pol_error_code(const pol_context *ctx);

/* Asks long work to stop at its next safe point with POL_EINTERRUPTED. Async-signal-safe, callable from any thread.
 * The request stays until pol_context_resume(). */
POL_API void pol_context_stop(pol_context *ctx);
POL_API void pol_context_resume(pol_context *ctx);

/* "0.1.0" and the like: the version of the library that runs. */
POL_API const char *pol_version(void);

#ifdef __cplusplus
}
#endif
#endif

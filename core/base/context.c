/* context.c - the context: last error, log sink, allocator, stop request. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/base.h"
#include "pollard/version.h"

enum { ERROR_TEXT_BYTES = 1024 };

struct pol_context {
    pol_allocator allocator;
    pol_log_fn log;
    void *log_user;
    pol_log_level log_level;
    pol_status code;
    bool muted; /* a failure leaves text and code as they are */
    volatile sig_atomic_t stop;
    char text[ERROR_TEXT_BYTES];
};

static void *libc_realloc(void *user, void *block, size_t bytes)
{
    (void)user;
    return realloc(block, bytes);
}

static void libc_free(void *user, void *block)
{
    (void)user;
    free(block);
}

pol_status pol_context_new(const pol_allocator *a, pol_context **out)
{
    const pol_allocator libc = {NULL, libc_realloc, libc_free};
    if (!out)
        return POL_EARG;
    *out = NULL;
    if (!a)
        a = &libc;
    if (!a->realloc || !a->free)
        return POL_EARG;
    pol_context *ctx = a->realloc(a->user, NULL, sizeof *ctx);
    if (!ctx)
        return POL_ENOMEM;
    memset(ctx, 0, sizeof *ctx);
    ctx->allocator = *a;
    *out = ctx;
    return POL_OK;
}

void pol_context_free(pol_context *ctx)
{
    if (ctx)
        ctx->allocator.free(ctx->allocator.user, ctx);
}

void pol_context_log(pol_context *ctx, pol_log_fn fn, void *user, pol_log_level level)
{
    ctx->log = fn;
    ctx->log_user = user;
    ctx->log_level = level;
}

const char *pol_error_text(const pol_context *ctx) { return ctx ? ctx->text : ""; }
pol_status pol_error_code(const pol_context *ctx) { return ctx ? ctx->code : POL_EARG; }
void pol_context_stop(pol_context *ctx) { ctx->stop = 1; }
void pol_context_resume(pol_context *ctx) { ctx->stop = 0; }
const char *pol_version(void) { return POL_VERSION_STRING; }

const char *pol_status_text(pol_status s)
{
    switch (s) {
    case POL_OK: return "done";
#define X(name, value, text) case name: return text;
        POL_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

const char *pol_status_name(pol_status s)
{
    switch (s) {
    case POL_OK: return "POL_OK";
#define X(name, value, text) case name: return #name;
        POL_STATUS_LIST(X)
#undef X
    }
    return "unknown";
}

pol_status pol_fail(pol_context *ctx, pol_status code, const char *fmt, ...)
{
    if (ctx->muted)
        return code;
    va_list ap;
    va_start(ap, fmt);
    /* Through a second buffer: an argument may be the old text (a caller that adds to the message). */
    char text[ERROR_TEXT_BYTES];
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    /* One line, whatever bytes a file name or a damaged header brought along. */
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    memcpy(ctx->text, text, sizeof text);
    ctx->code = code;
    return code;
}

void pol_mute(pol_context *ctx, bool on) { ctx->muted = on; }

void pol_log(pol_context *ctx, pol_log_level level, const char *fmt, ...)
{
    if (!ctx->log || level > ctx->log_level)
        return;
    char line[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    ctx->log(ctx->log_user, level, line);
}

pol_status pol_check_stop(pol_context *ctx)
{
    return ctx->stop ? pol_fail(ctx, POL_EINTERRUPTED, "stopped on request") : POL_OK;
}

void *pol_realloc(pol_context *ctx, void *block, size_t bytes)
{
    void *p = ctx->allocator.realloc(ctx->allocator.user, block, bytes ? bytes : 1);
    if (!p)
        pol_fail(ctx, POL_ENOMEM, "no memory for %zu bytes", bytes);
    return p;
}

void *pol_alloc(pol_context *ctx, size_t bytes) { return pol_realloc(ctx, NULL, bytes); }

void *pol_alloc_zero(pol_context *ctx, size_t bytes)
{
    void *p = pol_alloc(ctx, bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

void *pol_alloc_array(pol_context *ctx, int64_t n, size_t size)
{
    uint64_t bytes;
    if (n < 0 || !pol_mul_u64((uint64_t)n, size, &bytes) || bytes > SIZE_MAX) {
        pol_fail(ctx, POL_ENOMEM, "no memory for %lld elements of %zu bytes", (long long)n, size);
        return NULL;
    }
    return pol_alloc(ctx, (size_t)bytes);
}

void pol_free(pol_context *ctx, void *block)
{
    if (block)
        ctx->allocator.free(ctx->allocator.user, block);
}

char *pol_strndup(pol_context *ctx, const char *s, size_t n)
{
    char *p = pol_alloc(ctx, n + 1);
    if (p) {
        memcpy(p, s, n);
        p[n] = 0;
    }
    return p;
}

char *pol_strdup(pol_context *ctx, const char *s) { return pol_strndup(ctx, s, strlen(s)); }

char *pol_format(pol_context *ctx, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : pol_alloc(ctx, (size_t)n + 1);
    if (p) {
        va_start(ap, fmt);
        vsnprintf(p, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    return p;
}

/* bytes.c - the growing byte buffer. */
#include <stdio.h>
#include <string.h>

#include "core/base/base.h"

pol_status pol_bytes_reserve(pol_bytes *b, size_t more)
{
    uint64_t need;
    if (!pol_add_u64(b->len, more, &need) || !pol_add_u64(need, 1, &need) || need > SIZE_MAX / 2)
        return pol_fail(b->ctx, POL_ENOMEM, "no memory for %zu more bytes", more);
    if (need <= b->cap)
        return POL_OK;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap *= 2;
    char *p = pol_realloc(b->ctx, b->data, cap);
    if (!p)
        return POL_ENOMEM;
    b->data = p;
    b->cap = cap;
    b->data[b->len] = 0;
    return POL_OK;
}

pol_status pol_bytes_add(pol_bytes *b, const void *src, size_t n)
{
    POL_TRY(pol_bytes_reserve(b, n));
    if (n)
        memcpy(b->data + b->len, src, n);
    b->len += n;
    b->data[b->len] = 0;
    return POL_OK;
}

pol_status pol_bytes_printf(pol_bytes *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        return pol_fail(b->ctx, POL_EARG, "format '%s' cannot be printed", fmt);
    POL_TRY(pol_bytes_reserve(b, (size_t)n));
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return POL_OK;
}

void pol_bytes_free(pol_bytes *b)
{
    pol_free(b->ctx, b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

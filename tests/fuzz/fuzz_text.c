/* fuzz_text.c - hostile text files. The first byte chooses the format and whether documents are split; the rest is the
 * file. */
#include <stdlib.h>

#include "core/base/utf8.h"
#include "core/data/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a reader promises of a document. */
static pol_status check(void *user, const char *text, size_t n)
{
    if (!n || !pol_utf8_check(text, n, NULL))
        abort();
    ++*(int64_t *)user;
    return POL_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pol_context *ctx;
    if (!size || pol_context_new(NULL, &ctx) < 0)
        return 0;
    const pol_text_options o = {.format = (pol_text_format)(data[0] & 3), .separator = data[0] & 4 ? "--" : NULL};
    pol_reader *r;
    if (pol_reader_open_memory(ctx, "fuzz", data + 1, size - 1, &r) == POL_OK) {
        int64_t documents = 0;
        pol_reader_set_limit(r, (size_t)1 << 20); /* a few bytes of zstd can stand for gigabytes */
        if (pol_text_read_from(r, &o, check, &documents, NULL) == POL_OK && !documents)
            abort();
        pol_reader_close(r);
    }
    pol_context_free(ctx);
    return 0;
}

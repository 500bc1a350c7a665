/* fuzz_task.c - hostile files of multiple-choice items. The first byte chooses the template; the rest is the file. */
#include <stdlib.h>
#include <string.h>

#include "core/base/utf8.h"
#include "core/eval/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, bool may_be_empty)
{
    const size_t n = strlen(text);
    if ((!n && !may_be_empty) || !pol_utf8_check(text, n, NULL))
        abort();
}

/* What the reader promises of an item. */
static pol_status check(void *user, const pol_task_record *r)
{
    if (r->n < 2 || r->gold < 0 || r->gold >= r->n || r->line < 1)
        abort();
    for (int32_t i = 0; i < r->n; i++) {
        check_text(r->context[i], true);
        check_text(r->continuation[i], false);
        check_text(r->choice[i], false);
        if (r->continuation[i][0] != ' ')
            abort();
    }
    return ++*(int64_t *)user < 1000 ? POL_OK : POL_ELIMIT;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pol_context *ctx;
    if (!size || pol_context_new(NULL, &ctx) < 0)
        return 0;
    const pol_task_template *how = pol_task_template_at(data[0] % 6);
    pol_reader *r;
    if (pol_reader_open_memory(ctx, "fuzz", data + 1, size - 1, &r) == POL_OK) {
        int64_t items = 0;
        pol_reader_set_limit(r, (size_t)1 << 20); /* a few bytes of zstd can stand for gigabytes */
        (void)pol_task_parse(r, how, check, &items);
        pol_reader_close(r);
    }
    pol_context_free(ctx);
    return 0;
}

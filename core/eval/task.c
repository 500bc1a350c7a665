/* task.c - the items of a multiple-choice file as token sequences. */
#include "core/eval/task.h"

#include <string.h>

/* Of a line; a question is no book. */
#define LINE_LIMIT ((size_t)16 << 20)

typedef struct builder {
    pol_task *t;
    const pol_tokenizer *tok;
    const char *path;
    int32_t vocab, positions;
    bool lead;     /* prompts begin with BOS */
    int32_t empty; /* what an empty context is: BOS, else EOS; -1: there is neither */
    int64_t limit;
    bool full;
    pol_bytes text;         /* a whole prompt */
    pol_token_list context; /* ids of its beginning */
} builder;

static pol_status fail_line(const builder *b, const pol_task_record *r, const char *what)
{
    return pol_fail(b->t->ctx, POL_EFORMAT, "%s: line %lld: %s", b->path, (long long)r->line, what);
}

/* Appends the ids of a prompt. One that is empty has a first token all the same, or nothing could be predicted. */
static pol_status encode(const builder *b, const char *text, size_t n, bool empty, pol_token_list *ids)
{
    if (empty)
        POL_TRY(pol_token_list_add(b->t->ctx, ids, b->empty));
    else if (b->lead)
        POL_TRY(pol_token_list_add(b->t->ctx, ids, pol_tokenizer_bos(b->tok)));
    return pol_tokenizer_encode(b->tok, b->t->ctx, text, n, false, ids);
}

static pol_status check_ids(const builder *b, const pol_task_record *r, const pol_task_row *row)
{
    for (int64_t i = row->at; i < row->at + row->n; i++)
        if (b->t->ids.ids[i] < 0 || b->t->ids.ids[i] >= b->vocab)
            return pol_fail(b->t->ctx, POL_EFORMAT,
                            "%s: line %lld: token %d of the tokenizer is outside the model's vocabulary of %d", b->path,
                            (long long)r->line, b->t->ids.ids[i], b->vocab);
    return POL_OK;
}

/* What the model has no position for goes from the left; of a row the last token is predicted only. */
static pol_status cut(const builder *b, const pol_task_record *r, pol_task_row *row)
{
    pol_token_list *ids = &b->t->ids;
    const int32_t excess = row->n - 1 - b->positions;
    if (excess <= 0)
        return POL_OK;
    if (row->scored <= excess)
        return fail_line(b, r, "a choice is longer than the model's positions");
    memmove(ids->ids + row->at, ids->ids + row->at + excess, (size_t)(row->n - excess) * sizeof *ids->ids);
    ids->n -= excess;
    row->n -= excess;
    row->scored -= excess;
    row->cut = true;
    return POL_OK;
}

static int32_t count_characters(const char *text)
{
    int32_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Length of a context without the white space at its end, which counts with the continuation: tokens hold on to the
 * space before them. */
static size_t context_length(const char *context)
{
    size_t n = strlen(context);
    while (n && is_space(context[n - 1]))
        n--;
    return n;
}

/* The prompt is encoded whole; as many tokens of it as its context has alone are the context. */
static pol_status make_row(builder *b, const pol_task_record *r, int32_t i, pol_task_row *row)
{
    pol_task *t = b->t;
    const size_t lead = context_length(r->context[i]);
    if (!lead && b->empty < 0)
        return fail_line(b, r, "the context is empty, and the tokenizer has neither BOS nor EOS to begin with");
    *row = (pol_task_row){.at = t->ids.n, .characters = count_characters(r->choice[i])};
    b->text.len = 0;
    POL_TRY(pol_bytes_add(&b->text, r->context[i], strlen(r->context[i])));
    POL_TRY(pol_bytes_add(&b->text, r->continuation[i], strlen(r->continuation[i])));
    POL_TRY(encode(b, b->text.data, b->text.len, !lead, &t->ids));
    if (!i || r->context[i] != r->context[i - 1]) {
        b->context.n = 0;
        POL_TRY(encode(b, r->context[i], lead, !lead, &b->context));
    }
    row->n = (int32_t)(t->ids.n - row->at);
    /* A token that reaches over the border belongs to the choice, of which something is scored in any case. */
    row->scored = (int32_t)pol_min_i64(b->context.n, row->n - 1);
    if (row->scored < 1)
        return fail_line(b, r, "a choice with its context is less than two tokens");
    POL_TRY(check_ids(b, r, row));
    return cut(b, r, row);
}

/* Room for one more of each. */
static pol_status grow(pol_task *t, int32_t rows)
{
    if (t->n == t->cap) {
        const int64_t cap = pol_max_i64(64, 2 * t->cap);
        pol_task_item *items = pol_realloc(t->ctx, t->items, (size_t)cap * sizeof *items);
        if (!items)
            return POL_ENOMEM;
        t->items = items;
        t->cap = cap;
    }
    if (t->room - t->n_rows < rows) {
        const int64_t room = pol_max_i64(256, 2 * t->room);
        pol_task_row *more = pol_realloc(t->ctx, t->rows, (size_t)room * sizeof *more);
        if (!more)
            return POL_ENOMEM;
        t->rows = more;
        t->room = room;
    }
    return POL_OK;
}

static pol_status add_item(void *user, const pol_task_record *r)
{
    builder *b = user;
    pol_task *t = b->t;
    POL_TRY(grow(t, r->n));
    for (int32_t i = 0; i < r->n; i++) {
        pol_task_row *row = &t->rows[t->n_rows + i];
        POL_TRY(make_row(b, r, i, row));
        t->longest = pol_max_i64(t->longest, row->n - 1);
    }
    t->items[t->n++] = (pol_task_item){.first = t->n_rows, .rows = r->n, .gold = r->gold};
    t->n_rows += r->n;
    b->full = t->n == b->limit;
    return b->full ? POL_ELIMIT : POL_OK; /* stops the reading; not a failure */
}

static pol_status read_items(builder *b)
{
    pol_reader *r;
    POL_TRY(pol_reader_open(b->t->ctx, b->path, &r));
    pol_reader_set_limit(r, LINE_LIMIT);
    const pol_status s = pol_task_parse(r, b->t->how, add_item, b);
    pol_reader_close(r);
    if (s < 0 && !b->full)
        return s;
    return b->t->n ? POL_OK : pol_fail(b->t->ctx, POL_EFORMAT, "%s: no item in it", b->path);
}

static pol_status take_policy(builder *b, pol_bos bos)
{
    pol_context *ctx = b->t->ctx;
    const int32_t id = pol_tokenizer_bos(b->tok);
    if (bos != POL_BOS_MODEL && bos != POL_BOS_DOCUMENT && bos != POL_BOS_NONE)
        return pol_fail(ctx, POL_EARG, "BOS policy '%s': of a task it is one of model, document, none",
                        pol_bos_name(bos));
    if (bos == POL_BOS_DOCUMENT && (id < 0 || id >= b->vocab))
        return pol_fail(ctx, POL_EARG, "BOS policy '%s': the tokenizer's BOS is %d, and the model's vocabulary is %d",
                        pol_bos_name(bos), id, b->vocab);
    b->lead = bos == POL_BOS_DOCUMENT || (bos == POL_BOS_MODEL && pol_tokenizer_adds_bos(b->tok) && id >= 0);
    b->empty = id >= 0 ? id : pol_tokenizer_eos(b->tok);
    return POL_OK;
}

static pol_status find_template(pol_context *ctx, const char *name, const pol_task_template **out)
{
    *out = pol_task_template_find(name);
    return *out ? POL_OK
                : pol_fail(ctx, POL_EARG, "task '%s' is none of piqa, openbookqa, winogrande, arc_easy, boolq, plain",
                           name);
}

pol_status pol_task_read(pol_context *ctx, const pol_tokenizer *tok, const pol_config *c, const char *name,
                         const char *path, pol_bos bos, int64_t limit, pol_task **out)
{
    const pol_task_template *how;
    *out = NULL;
    POL_TRY(find_template(ctx, name, &how));
    pol_task *t = pol_alloc_zero(ctx, sizeof *t);
    if (!t)
        return POL_ENOMEM;
    t->ctx = ctx;
    t->how = how;
    t->longest = 2; /* the shortest sequence that goes through a model */
    builder b = {.t = t,
                 .tok = tok,
                 .path = path,
                 .vocab = c->vocab,
                 .positions = c->max_positions,
                 .limit = limit,
                 .text = {.ctx = ctx}};
    pol_status s = take_policy(&b, bos);
    if (s == POL_OK)
        s = read_items(&b);
    pol_bytes_free(&b.text);
    pol_token_list_free(ctx, &b.context);
    if (s < 0) {
        pol_task_free(t);
        return s;
    }
    *out = t;
    return POL_OK;
}

void pol_task_free(pol_task *t)
{
    if (!t)
        return;
    pol_token_list_free(t->ctx, &t->ids);
    pol_free(t->ctx, t->items);
    pol_free(t->ctx, t->rows);
    pol_free(t->ctx, t);
}

int64_t pol_task_items(const pol_task *t) { return t->n; }
int64_t pol_task_longest(const pol_task *t) { return t->longest; }
const pol_task_template *pol_task_template_of(const pol_task *t) { return t->how; }

int64_t pol_task_rows(const pol_task *t, int64_t first, int64_t n)
{
    return n ? t->items[first + n - 1].first + t->items[first + n - 1].rows - t->items[first].first : 0;
}

uint64_t pol_task_bytes(const pol_task *t)
{
    return (uint64_t)t->cap * sizeof *t->items + (uint64_t)t->room * sizeof *t->rows +
           (uint64_t)t->ids.cap * sizeof *t->ids.ids;
}

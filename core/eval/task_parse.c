/* task_parse.c - the records of a multiple-choice file, with a template applied. */
#include <math.h>
#include <string.h>

#include "core/data/jsonl.h"
#include "core/eval/task.h"

enum { MAX_CHOICES = 64 };

typedef struct parser {
    pol_reader *r;
    const pol_task_template *how;
    pol_task_record_fn fn;
    void *user;
    int64_t line;
    pol_bytes context; /* the prompt that choices share */
    pol_bytes joined;  /* continuations with their delimiter */
    const char *contexts[MAX_CHOICES], *continuations[MAX_CHOICES], *choices[MAX_CHOICES];
} parser;

static pol_status fail_field(const parser *p, const char *field, const char *what)
{
    return pol_fail(pol_reader_context(p->r), POL_EFORMAT, "%s: line %lld: '%s' %s", pol_reader_name(p->r),
                    (long long)p->line, field, what);
}

/* A string without a 0 byte in it, which would end it for whoever reads on. */
static pol_status take_string(const parser *p, const char *field, const json_t *v, bool may_be_empty, const char **out)
{
    *out = json_string_value(v);
    if (!*out)
        return fail_field(p, field, v ? "is not a string" : "is missing");
    if (strlen(*out) != json_string_length(v))
        return fail_field(p, field, "has a 0 byte in it");
    return **out || may_be_empty ? POL_OK : fail_field(p, field, "is empty");
}

static pol_status take_strings(const parser *p, const char *field, const json_t *a, const char **out, int32_t *n)
{
    const size_t count = json_array_size(a);
    if (!json_is_array(a))
        return fail_field(p, field, a ? "is not a list" : "is missing");
    if (count < 2 || count > MAX_CHOICES)
        return fail_field(p, field, "has not between 2 and 64 entries");
    for (size_t i = 0; i < count; i++)
        POL_TRY(take_string(p, field, json_array_get(a, i), false, &out[i]));
    *n = (int32_t)count;
    return POL_OK;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The query as the template has it. */
static pol_status make_context(parser *p, const char *query)
{
    const size_t lead = strlen(p->how->strip);
    if (!strncmp(query, p->how->strip, lead))
        query += lead;
    size_t n = strlen(query);
    while (p->how->append && n && is_space(query[n - 1]))
        n--;
    p->context.len = 0;
    POL_TRY(pol_bytes_add(&p->context, query, n));
    return pol_bytes_printf(&p->context, "%s", p->how->append ? p->how->append : "");
}

/* " " + text for each of n; they follow each other in p->joined, each with its 0. */
static pol_status delimit(parser *p, const char *const *text, int32_t n)
{
    size_t at[MAX_CHOICES];
    p->joined.len = 0;
    for (int32_t i = 0; i < n; i++) {
        at[i] = p->joined.len;
        POL_TRY(pol_bytes_add(&p->joined, " ", 1));
        POL_TRY(pol_bytes_add(&p->joined, text[i], strlen(text[i]) + 1));
    }
    for (int32_t i = 0; i < n; i++)
        p->continuations[i] = p->joined.data + at[i];
    return POL_OK;
}

/* A context, and a continuation a choice. */
static pol_status take_choices(parser *p, const json_t *o, int32_t *n)
{
    const char *query;
    POL_TRY(take_strings(p, "choices", json_object_get(o, "choices"), p->choices, n));
    POL_TRY(take_string(p, "query", json_object_get(o, "query"), true, &query));
    POL_TRY(make_context(p, query));
    for (int32_t i = 0; i < *n; i++)
        p->contexts[i] = p->context.data;
    return delimit(p, p->choices, *n);
}

/* A context a choice, and one continuation. */
static pol_status take_contexts(parser *p, const json_t *o, int32_t *n)
{
    const char *continuation[MAX_CHOICES];
    POL_TRY(take_strings(p, "context_options", json_object_get(o, "context_options"), p->choices, n));
    POL_TRY(take_string(p, "continuation", json_object_get(o, "continuation"), false, &continuation[0]));
    for (int32_t i = 0; i < *n; i++) {
        p->contexts[i] = p->choices[i];
        continuation[i] = continuation[0];
    }
    return delimit(p, continuation, *n);
}

static pol_status take_gold(const parser *p, const json_t *o, int32_t n, int32_t *gold)
{
    const json_t *v = json_object_get(o, "gold");
    const double x = json_number_value(v);
    if (!json_is_number(v))
        return fail_field(p, "gold", v ? "is not a number" : "is missing");
    if (!(x >= 0 && x < n) || x != floor(x))
        return fail_field(p, "gold", "is the number of no choice");
    *gold = (int32_t)x;
    return POL_OK;
}

static pol_status take_record(void *user, int64_t line, const json_t *o)
{
    parser *p = user;
    pol_task_record r = {.line = line, .context = p->contexts, .continuation = p->continuations, .choice = p->choices};
    p->line = line;
    POL_TRY(json_object_get(o, "context_options") ? take_contexts(p, o, &r.n) : take_choices(p, o, &r.n));
    POL_TRY(take_gold(p, o, r.n, &r.gold));
    return p->fn(p->user, &r);
}

pol_status pol_task_parse(pol_reader *r, const pol_task_template *how, pol_task_record_fn fn, void *user)
{
    pol_context *ctx = pol_reader_context(r);
    parser p = {.r = r, .how = how, .fn = fn, .user = user, .context = {.ctx = ctx}, .joined = {.ctx = ctx}};
    const pol_status s = pol_jsonl_objects(r, take_record, &p);
    pol_bytes_free(&p.context);
    pol_bytes_free(&p.joined);
    return s;
}

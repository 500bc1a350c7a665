/* json_steps.c - the normalizer and the pre_tokenizer of tokenizer.json. What is not known is refused by its name. */
#include <string.h>

#include "core/base/json.h"
#include "core/model/tokenizer/internal.h"
#include "core/model/tokenizer/unicode.h"

typedef struct reader {
    pol_context *ctx;
    const char *where;
} reader;

static pol_status too_many(const reader *r)
{
    return pol_fail(r->ctx, POL_EUNSUPPORTED, "%s: more than %d steps", r->where, POL_MAX_STEPS);
}

/* {"Regex": "..."} or {"String": "..."} under `key`. */
static pol_status read_pattern(const reader *r, const json_t *j, const char *key, pol_pattern **out)
{
    json_t *o;
    POL_TRY(pol_json_object(r->ctx, r->where, j, key, &o));
    const char *regex = NULL, *text = NULL;
    POL_TRY(pol_json_str_opt(r->ctx, r->where, o, "Regex", &regex));
    POL_TRY(pol_json_str_opt(r->ctx, r->where, o, "String", &text));
    if (regex)
        return pol_pattern_new(r->ctx, r->where, regex, strlen(regex), out);
    if (!text || !*text)
        return pol_fail(r->ctx, POL_EUNSUPPORTED, "%s: '%s' has neither a 'Regex' nor a 'String' that is not empty",
                        r->where, key);
    return pol_pattern_new_literal(r->ctx, r->where, text, strlen(text), out);
}

/* ---- normalizer ---- */

static const struct {
    const char *type;
    pol_normal_kind kind;
} normal_kinds[] = {{"Prepend", POL_NORMAL_PREPEND}, {"Replace", POL_NORMAL_REPLACE}, {"NFC", POL_NORMAL_NFC},
                    {"NFD", POL_NORMAL_NFD},         {"NFKC", POL_NORMAL_NFKC},       {"NFKD", POL_NORMAL_NFKD},
                    {"Lowercase", POL_NORMAL_LOWER}, {"Strip", POL_NORMAL_STRIP}};

static pol_status read_normal_step(const reader *r, const json_t *j, const char *type, pol_normalizer *nz)
{
    size_t k = 0;
    while (k < POL_COUNT(normal_kinds) && strcmp(type, normal_kinds[k].type) != 0)
        k++;
    if (k == POL_COUNT(normal_kinds))
        return pol_fail(r->ctx, POL_EUNSUPPORTED, "%s: type '%s' is not supported", r->where, type);
    if (nz->n == POL_MAX_STEPS)
        return too_many(r);
    pol_normal_step *st = &nz->steps[nz->n];
    *st = (pol_normal_step){.kind = normal_kinds[k].kind, .left = true, .right = true};
    const char *content = NULL;
    switch (st->kind) {
    case POL_NORMAL_PREPEND: POL_TRY(pol_json_str(r->ctx, r->where, j, "prepend", &content)); break;
    case POL_NORMAL_REPLACE: POL_TRY(pol_json_str(r->ctx, r->where, j, "content", &content)); break;
    case POL_NORMAL_STRIP:
        POL_TRY(pol_json_bool_opt(r->ctx, r->where, j, "strip_left", &st->left));
        POL_TRY(pol_json_bool_opt(r->ctx, r->where, j, "strip_right", &st->right));
        break;
    default: break;
    }
    if (content) {
        st->content = pol_strdup(r->ctx, content);
        if (!st->content)
            return POL_ENOMEM;
        st->content_len = strlen(content);
    }
    nz->n++; /* from here on it is freed with the others */
    if (st->kind != POL_NORMAL_REPLACE)
        return POL_OK;
    POL_TRY(read_pattern(r, j, "pattern", &st->pattern));
    const json_t *pattern = json_object_get(j, "pattern");
    const char *text = json_string_value(json_object_get(pattern, "String"));
    st->spaces_only = text && strcmp(text, " ") == 0 && !json_object_get(pattern, "Regex");
    return POL_OK;
}

static pol_status read_normalizer(const reader *r, const json_t *j, int depth, pol_normalizer *nz)
{
    const char *type;
    POL_TRY(pol_json_str(r->ctx, r->where, j, "type", &type));
    if (strcmp(type, "Sequence") != 0)
        return read_normal_step(r, j, type, nz);
    json_t *list;
    if (depth == POL_MAX_STEPS)
        return too_many(r);
    POL_TRY(pol_json_array(r->ctx, r->where, j, "normalizers", &list));
    for (size_t i = 0; i < json_array_size(list); i++)
        POL_TRY(read_normalizer(r, json_array_get(list, i), depth + 1, nz));
    return POL_OK;
}

pol_status pol_read_normalizer(pol_context *ctx, const char *name, const json_t *j, pol_normalizer *nz)
{
    if (!j || json_is_null(j))
        return POL_OK;
    char *where = pol_format(ctx, "%s: normalizer", name);
    if (!where)
        return POL_ENOMEM;
    pol_status s = read_normalizer(&(reader){ctx, where}, j, 0, nz);
    pol_free(ctx, where);
    return s;
}

/* ---- pre_tokenizer ---- */

/* ASCII punctuation, symbols among them, and the categories P*. */
static const char punctuation[] = "[!-/:-@\\[-`{-~\\p{P}]";

/* The two are Rust's \w here, which is not that of the patterns in a file. */
#define WORD                                                                                      \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200C}\\x{200D}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}" \
    "\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"
static const char words_and_others[] = "[" WORD "]+|[^" WORD "\\s]+";

static pol_status read_behavior(const reader *r, const json_t *j, pol_split_behavior *out)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = names[*out];
    POL_TRY(pol_json_str_opt(r->ctx, r->where, j, "behavior", &name));
    for (size_t i = 0; i < POL_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (pol_split_behavior)i;
            return POL_OK;
        }
    return pol_fail(r->ctx, POL_EUNSUPPORTED, "%s: behavior '%s' is not supported", r->where, name);
}

static pol_status read_split(const reader *r, const json_t *j, pol_splitter *sp)
{
    pol_split_step st = {.kind = POL_SPLIT_PATTERN, .behavior = POL_SPLIT_ISOLATED};
    POL_TRY(read_behavior(r, j, &st.behavior));
    POL_TRY(pol_json_bool_opt(r->ctx, r->where, j, "invert", &st.invert));
    if (sp->n == POL_MAX_STEPS)
        return too_many(r);
    POL_TRY(read_pattern(r, j, "pattern", &st.pattern));
    sp->steps[sp->n++] = st;
    return POL_OK;
}

static pol_status read_byte_level(const reader *r, const json_t *j, pol_splitter *sp, bool *byte_level)
{
    bool prefix = true, regex = true;
    POL_TRY(pol_json_bool_opt(r->ctx, r->where, j, "add_prefix_space", &prefix));
    POL_TRY(pol_json_bool_opt(r->ctx, r->where, j, "use_regex", &regex));
    *byte_level = true;
    if (prefix) {
        if (sp->n == POL_MAX_STEPS)
            return too_many(r);
        sp->steps[sp->n++] = (pol_split_step){.kind = POL_SPLIT_PREFIX_SPACE};
    }
    return regex ? pol_splitter_add_pattern(r->ctx, sp, r->where, pol_regex_gpt2, POL_SPLIT_ISOLATED, false) : POL_OK;
}

static pol_status read_metaspace(const reader *r, const json_t *j, pol_splitter *sp)
{
    static const char *const schemes[] = {"always", "first", "never"};
    const char *mark = POL_SPACE_MARK, *scheme = NULL;
    bool prefix = true, split = true;
    POL_TRY(pol_json_str_opt(r->ctx, r->where, j, "replacement", &mark));
    POL_TRY(pol_json_str_opt(r->ctx, r->where, j, "prepend_scheme", &scheme));
    POL_TRY(pol_json_bool_opt(r->ctx, r->where, j, "add_prefix_space", &prefix));
    POL_TRY(pol_json_bool_opt(r->ctx, r->where, j, "split", &split));
    if (!*mark || strlen(mark) != pol_utf8_length(mark))
        return pol_fail(r->ctx, POL_EFORMAT, "%s: replacement '%s' is not one character", r->where, mark);
    if (!scheme) /* files from before the scheme had only the flag */
        scheme = prefix ? "always" : "never";
    size_t k = 0;
    while (k < POL_COUNT(schemes) && strcmp(scheme, schemes[k]) != 0)
        k++;
    if (k == POL_COUNT(schemes))
        return pol_fail(r->ctx, POL_EUNSUPPORTED, "%s: prepend_scheme '%s' is not supported", r->where, scheme);
    if (sp->n + 2 > POL_MAX_STEPS)
        return too_many(r);
    pol_split_step *st = &sp->steps[sp->n++];
    *st = (pol_split_step){.kind = POL_SPLIT_METASPACE, .scheme = (pol_prepend_scheme)k};
    memcpy(st->mark, mark, strlen(mark));
    if (!split)
        return POL_OK;
    st = &sp->steps[sp->n];
    *st = (pol_split_step){.kind = POL_SPLIT_PATTERN, .behavior = POL_SPLIT_WITH_NEXT};
    POL_TRY(pol_pattern_new_literal(r->ctx, r->where, mark, strlen(mark), &st->pattern));
    sp->n++;
    return POL_OK;
}

static pol_status read_split_step(const reader *r, const json_t *j, const char *type, pol_splitter *sp,
                                  bool *byte_level)
{
    if (*byte_level)
        return pol_fail(r->ctx, POL_EUNSUPPORTED, "%s: type '%s' after ByteLevel is not supported", r->where, type);
    if (strcmp(type, "ByteLevel") == 0)
        return read_byte_level(r, j, sp, byte_level);
    if (strcmp(type, "Split") == 0)
        return read_split(r, j, sp);
    if (strcmp(type, "Metaspace") == 0)
        return read_metaspace(r, j, sp);
    if (strcmp(type, "Digits") == 0) {
        bool each = false;
        POL_TRY(pol_json_bool_opt(r->ctx, r->where, j, "individual_digits", &each));
        return pol_splitter_add_pattern(r->ctx, sp, r->where, pol_regex_digit,
                                        each ? POL_SPLIT_ISOLATED : POL_SPLIT_CONTIGUOUS, false);
    }
    if (strcmp(type, "Punctuation") == 0) {
        pol_split_behavior behavior = POL_SPLIT_ISOLATED;
        POL_TRY(read_behavior(r, j, &behavior));
        return pol_splitter_add_pattern(r->ctx, sp, r->where, punctuation, behavior, false);
    }
    if (strcmp(type, "Whitespace") == 0)
        return pol_splitter_add_pattern(r->ctx, sp, r->where, words_and_others, POL_SPLIT_REMOVED, true);
    if (strcmp(type, "WhitespaceSplit") == 0)
        return pol_splitter_add_pattern(r->ctx, sp, r->where, "\\s", POL_SPLIT_REMOVED, false);
    return pol_fail(r->ctx, POL_EUNSUPPORTED, "%s: type '%s' is not supported", r->where, type);
}

static pol_status read_pre_tokenizer(const reader *r, const json_t *j, int depth, pol_splitter *sp, bool *byte_level)
{
    const char *type;
    POL_TRY(pol_json_str(r->ctx, r->where, j, "type", &type));
    if (strcmp(type, "Sequence") != 0)
        return read_split_step(r, j, type, sp, byte_level);
    json_t *list;
    if (depth == POL_MAX_STEPS)
        return too_many(r);
    POL_TRY(pol_json_array(r->ctx, r->where, j, "pretokenizers", &list));
    for (size_t i = 0; i < json_array_size(list); i++)
        POL_TRY(read_pre_tokenizer(r, json_array_get(list, i), depth + 1, sp, byte_level));
    return POL_OK;
}

pol_status pol_read_pre_tokenizer(pol_context *ctx, const char *name, const json_t *j, pol_splitter *sp,
                                  bool *byte_level)
{
    *byte_level = false;
    if (!j || json_is_null(j))
        return POL_OK;
    char *where = pol_format(ctx, "%s: pre_tokenizer", name);
    if (!where)
        return POL_ENOMEM;
    pol_status s = read_pre_tokenizer(&(reader){ctx, where}, j, 0, sp, byte_level);
    pol_free(ctx, where);
    return s;
}

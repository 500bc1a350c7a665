/* json.h - JSON from outside, read with errors that name file and field. jansson does the parsing.
 *
 * A reader walks with a pol_json cursor: it knows its file and its path ("model.vocab[3]"), so every message can.
 */
#ifndef POL_JSON_H
#define POL_JSON_H

#include <jansson.h>

#include "core/base/base.h"

/* Parses text; duplicate keys, trailing text, invalid UTF-8 and nesting above jansson's limit are POL_EFORMAT naming
 * `name` (a file name for the message), line and column. *out is yours: json_decref(). An integer beyond 64 bits comes
 * as a real. */
pol_status pol_json_parse(pol_context *ctx, const char *name, const void *text, size_t n, json_t **out);
pol_status pol_json_read(pol_context *ctx, const char *path, size_t limit, json_t **out);
/* Atomic write, indented, keys in insertion order, newline at the end. Reals have 15 digits: 0.7 stays 0.7. */
pol_status pol_json_write(pol_context *ctx, const char *path, const json_t *j);

/* Typed access to a field of an object. `where` is the prefix for messages ("config.json" or "config.json: rope_scaling").
 * The _opt forms leave *out untouched where the key is absent or null; the others fail with POL_EFORMAT. Integers are
 * checked against [lo, hi]; numbers must be finite. */
pol_status pol_json_int(pol_context *ctx, const char *where, const json_t *o, const char *key, int64_t lo, int64_t hi, int64_t *out);
pol_status pol_json_int_opt(pol_context *ctx, const char *where, const json_t *o, const char *key, int64_t lo, int64_t hi, int64_t *out);
pol_status pol_json_num(pol_context *ctx, const char *where, const json_t *o, const char *key, double lo, double hi, double *out);
pol_status pol_json_num_opt(pol_context *ctx, const char *where, const json_t *o, const char *key, double lo, double hi, double *out);
pol_status pol_json_bool_opt(pol_context *ctx, const char *where, const json_t *o, const char *key, bool *out);
pol_status pol_json_str(pol_context *ctx, const char *where, const json_t *o, const char *key, const char **out); /* borrowed */
pol_status pol_json_str_opt(pol_context *ctx, const char *where, const json_t *o, const char *key, const char **out);
pol_status pol_json_array(pol_context *ctx, const char *where, const json_t *o, const char *key, json_t **out); /* borrowed */
pol_status pol_json_object(pol_context *ctx, const char *where, const json_t *o, const char *key, json_t **out);

#endif

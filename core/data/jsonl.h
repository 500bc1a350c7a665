/* jsonl.h - a file of JSON objects, one a line. */
#ifndef POL_DATA_JSONL_H
#define POL_DATA_JSONL_H

#include <jansson.h>

#include "core/data/reader.h"

/* Called once a line that is not blank, in file order; numbers are reals, whatever they look like. A negative status
 * stops and is passed up. */
typedef pol_status (*pol_json_line_fn)(void *user, int64_t line, const json_t *object);
/* POL_EFORMAT naming line and column: a line that is no object, or no UTF-8. */
pol_status pol_jsonl_objects(pol_reader *r, pol_json_line_fn fn, void *user);

#endif

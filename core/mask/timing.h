/* timing.h - the table of times that a budget in milliseconds goes by: checked, smoothed, read at any count, and as
 * JSON. */
#ifndef POL_TIMING_H
#define POL_TIMING_H

#include <jansson.h>

#include "core/base/base.h"
#include "pollard/cost.h"

/* To a multiple of 2^-20 ms, a nanosecond: sums of such times below 2^33 ms are exact. */
double pol_timing_round(double ms);

/* `code`, naming the point, where a table is not what pollard/cost.h says; `name` is for messages. */
pol_status pol_timing_check(pol_context *ctx, pol_status code, const char *name, const pol_timing *t);

/* Makes the times of a kind never fall: the nearest such times in the sum of squares (neighbours that fall are pooled
 * into their mean). */
void pol_timing_smooth(pol_timing *t, pol_unit_kind kind);

/* Milliseconds of a block with n units, 0 <= n <= the last point: on the straight line between points; from 0 at no
 * units the line goes to the first point. */
double pol_timing_at(const pol_timing *t, pol_unit_kind kind, int64_t n);

/* As it stands in a run's record. to: a new reference, NULL where memory ran out. from: POL_EFORMAT naming field and
 * value; it reads what the other wrote to the same bits. */
json_t *pol_timing_to_json(const pol_timing *t);
pol_status pol_timing_from_json(pol_context *ctx, const char *name, const json_t *j, pol_timing *out);

#endif

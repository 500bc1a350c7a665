/* figures.c - figures as lines and as JSON. */
#include "bench/figures.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

void figures_open(figures *f) { f->list = json_array(); }

void figures_close(figures *f)
{
    json_decref(f->list);
    f->list = NULL;
}

void figures_add(figures *f, figure x)
{
    const bool met = x.is == FIGURE_AT_MOST ? x.value <= x.goal : x.value >= x.goal;
    printf("%-58s %10.4g %s", x.text, x.value, x.unit);
    if (x.is)
        printf("  (goal: %s %g, %s)", x.is == FIGURE_AT_MOST ? "at most" : "at least", x.goal, met ? "met" : "NOT met");
    putchar('\n');
    fflush(stdout);
    /* JSON has no NaN. */
    json_t *j = json_pack("{ss ss so ss}", "name", x.name, "text", x.text, "value",
                          isfinite(x.value) ? json_real(x.value) : json_null(), "unit", x.unit);
    if (x.is) {
        json_object_set_new(j, "goal", json_real(x.goal));
        json_object_set_new(j, "at_most", json_boolean(x.is == FIGURE_AT_MOST));
        json_object_set_new(j, "met", json_boolean(met));
    }
    json_array_append_new(f->list, j);
}

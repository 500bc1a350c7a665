/* figures.h - what a benchmark has measured: a line each as it comes, and all of it as JSON at the end. */
#ifndef BENCH_FIGURES_H
#define BENCH_FIGURES_H

#include <jansson.h>

typedef struct figures {
    json_t *list; /* of objects: name, text, value, unit; where there is a goal: goal, at_most, met */
} figures;

void figures_open(figures *f);
void figures_close(figures *f);

typedef enum figure_goal { FIGURE_NO_GOAL = 0, FIGURE_AT_LEAST, FIGURE_AT_MOST } figure_goal;

typedef struct figure {
    const char *name; /* for programs: "pass_over_peak" */
    const char *text; /* what it is, for people */
    double value;
    const char *unit; /* "" for a ratio */
    figure_goal is;
    double goal;
} figure;

/* Prints it too. */
void figures_add(figures *f, figure x);

#endif

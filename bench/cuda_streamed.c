/* cuda_streamed.c - what a step costs where layers visit the device, by the number of passes that a visit serves. */
#include <stdio.h>

#include "bench/bench.h"
#include "bench/bench_cuda.h"
#include "core/model/weights.h"

/* A step of n passes, each with a fresh mask. */
static pol_status time_step(session *s, int64_t n, double *seconds)
{
    const int64_t units = pol_model_units(s->model)->n;
    session_draw(s, s->o->keep, n, s->masks);
    const double start = bench_seconds();
    for (int64_t i = 0; i < n; i++) {
        POL_TRY(pol_model_set_mask(s->model, s->masks + i * units));
        POL_TRY(session_queue(s));
    }
    POL_TRY(session_settle(s));
    *seconds = bench_seconds() - start;
    return POL_OK;
}

static void report(session *s, int64_t n, double seconds)
{
    char name[64], text[64];
    snprintf(name, sizeof name, "streamed_step_%lld", (long long)n);
    snprintf(text, sizeof text, "streamed: a step, passes: %lld", (long long)n);
    figures_add(s->out, (figure){.name = name, .text = text, .value = 1e3 * seconds, .unit = "ms"});
}

pol_status measure_streamed(session *s)
{
    const double home = (double)pol_model_home_bytes(&s->model->config, s->be);
    const int64_t most = s->model->placement.cells;
    double seconds[MAX_ROUNDS], alone = 0;
    POL_TRY(time_step(s, most, seconds)); /* warms up */
    for (int64_t n = 1; n <= most; n *= 2) {
        for (int64_t i = 0; i < s->o->rounds; i++)
            POL_TRY(time_step(s, n, &seconds[i]));
        const double step = pol_bench_median(seconds, s->o->rounds);
        report(s, n, step);
        if (n == 1)
            alone = step;
    }
    figures_add(s->out, (figure){"streamed_copy", "streamed: weights over the time of a single pass",
                                 1e-9 * home / alone, "GB/s", FIGURE_NO_GOAL, 0});
    return POL_OK;
}

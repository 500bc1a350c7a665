/* common.c - errors, JSON, progress, and numbers for people. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

int cli_failed(pol_context *ctx, const char *command, pol_status s)
{
    fprintf(stderr, "pollard %s: %s\n", command, pol_error_text(ctx));
    switch (s) {
    case POL_EARG: return EXIT_USAGE;
    case POL_EFORMAT:
    case POL_EIO:
    case POL_EUNSUPPORTED:
    case POL_ELIMIT: return EXIT_INPUT;
    case POL_EINTERRUPTED: return EXIT_INTERRUPTED;
    default: return EXIT_FAILED;
    }
}

int cli_usage(const char *command, const char *what)
{
    fprintf(stderr, "pollard %s: %s; see 'pollard help %s'\n", command, what, command);
    return EXIT_USAGE;
}

int cli_print_json(json_t *j)
{
    const bool ok = j && json_dumpf(j, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(15)) == 0 && putchar('\n') != EOF;
    json_decref(j);
    if (!ok)
        fputs("pollard: the JSON result could not be written\n", stderr);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

double cli_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void cli_progress_init(cli_progress *p, bool quiet)
{
    memset(p, 0, sizeof *p);
    p->quiet = quiet;
    p->terminal = isatty(STDERR_FILENO);
    p->started = p->shown = cli_seconds();
}

void cli_progress_stage(cli_progress *p, const char *name)
{
    snprintf(p->stage, sizeof p->stage, "%s", name);
    if (p->quiet)
        return;
    if (p->terminal)
        cli_progress_line(p, true, "%s ...", name);
    else
        fprintf(stderr, "%s\n", name);
}

void cli_progress_line(cli_progress *p, bool last, const char *fmt, ...)
{
    /* Often enough to be alive on a terminal, seldom enough to be read in a log. */
    const double now = cli_seconds(), wait = p->terminal ? 0.2 : 15.0;
    if (p->quiet || (!last && now - p->shown < wait))
        return;
    p->shown = now;
    va_list ap;
    va_start(ap, fmt);
    if (p->terminal)
        fputs("\r\033[K", stderr);
    vfprintf(stderr, fmt, ap);
    if (!p->terminal)
        fputc('\n', stderr);
    fflush(stderr);
    va_end(ap);
}

void cli_progress_clear(cli_progress *p)
{
    if (!p->quiet && p->terminal)
        fputs("\r\033[K", stderr);
}

const char *cli_bytes(char buf[32], double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int i = 0;
    for (; i < 4 && bytes >= 1024; i++)
        bytes /= 1024;
    snprintf(buf, 32, i ? "%.2f %s" : "%.0f %s", bytes, units[i]);
    return buf;
}

const char *cli_duration(char buf[32], double seconds)
{
    if (seconds < 100)
        snprintf(buf, 32, "%.0f s", seconds);
    else if (seconds < 100 * 60)
        snprintf(buf, 32, "%.1f min", seconds / 60);
    else
        snprintf(buf, 32, "%.1f h", seconds / 3600);
    return buf;
}

const char *cli_count(char buf[32], double n)
{
    if (n >= 1e9)
        snprintf(buf, 32, "%.2f B", n / 1e9);
    else if (n >= 1e6)
        snprintf(buf, 32, "%.1f M", n / 1e6);
    else
        snprintf(buf, 32, "%.0f", n);
    return buf;
}

/* progress.c - what a person sees of long work, all on standard error. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

/* To the first column of a terminal, and its line erased. */
#define ERASE "\r\033[K"

static double seconds(void)
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
    p->shown = seconds();
}

void cli_progress_stage(cli_progress *p, const char *name)
{
    snprintf(p->stage, sizeof p->stage, "%s", name);
    cli_progress_line(p, true, "%s%s", name, p->terminal ? " ..." : "");
}

/* A line that is wider than the terminal would wrap, and could not be taken back. */
static int columns(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col - 1 : 79;
}

void cli_progress_line(cli_progress *p, bool last, const char *fmt, ...)
{
    /* Often enough to be alive on a terminal, seldom enough to be read in a log. */
    const double now = seconds(), wait = p->terminal ? 0.2 : 15.0;
    if (p->quiet || (!last && now - p->shown < wait))
        return;
    p->shown = now;
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (p->terminal)
        fprintf(stderr, ERASE "%.*s", columns(), line);
    else
        fprintf(stderr, "%s\n", line);
    fflush(stderr);
}

void cli_progress_note(cli_progress *p, const char *fmt, ...)
{
    if (p->quiet)
        return;
    cli_progress_clear(p);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void cli_progress_clear(cli_progress *p)
{
    if (!p->quiet && p->terminal)
        fputs(ERASE, stderr);
}

static void log_line(void *user, pol_log_level level, const char *line)
{
    static const char *const names[] = {"error", "warning", "info", "debug", "trace"};
    cli_progress_note(user, "%s: %s", names[level], line);
}

void cli_progress_log(cli_progress *p, pol_context *ctx, pol_log_level level)
{
    pol_context_log(ctx, p->quiet ? NULL : log_line, p, level);
}

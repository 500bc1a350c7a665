/* cli.h - what the commands share. */
#ifndef CLI_H
#define CLI_H

#include <jansson.h>

#include "options.h"
#include "pollard/pollard.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INPUT = 3, EXIT_INTERRUPTED = 130 };

/* One row of the command table (main.c). `run` gets argv from the command's name on and returns the exit code. */
typedef struct cli_command {
    const char *name;
    const char *usage; /* after "pollard" */
    const char *text;  /* one line */
    int (*run)(pol_context *ctx, int argc, char **argv);
    void (*help)(void); /* options, after usage and text */
} cli_command;

int cmd_prune(pol_context *ctx, int argc, char **argv);
void help_prune(void);
int cmd_estimate(pol_context *ctx, int argc, char **argv);
int cmd_eval(pol_context *ctx, int argc, char **argv);
void help_eval(void);
int cmd_export(pol_context *ctx, int argc, char **argv);
void help_export(void);
int cmd_inspect(pol_context *ctx, int argc, char **argv);
void help_inspect(void);
int cmd_devices(pol_context *ctx, int argc, char **argv);
void help_devices(void);

/* Prints the context's error as one line and gives the exit code that belongs to the status. */
int cli_failed(pol_context *ctx, const char *command, pol_status s);
int cli_usage(const char *command, const char *what);
/* Prints one JSON object and a newline; takes the reference. EXIT_DONE, or EXIT_FAILED where it cannot be written. */
int cli_print_json(json_t *j);

/* The progress of long work on standard error: one line rewritten on a terminal, else a plain line now and then. */
typedef struct cli_progress {
    bool quiet, terminal;
    double started, shown;
    char stage[64];
} cli_progress;
void cli_progress_init(cli_progress *p, bool quiet);
void cli_progress_stage(cli_progress *p, const char *name);
void cli_progress_line(cli_progress *p, bool last, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void cli_progress_clear(cli_progress *p);
double cli_seconds(void);

/* "1.23 GiB", "2.5 min", "134.5 M": each returns its buffer. */
const char *cli_bytes(char buf[32], double bytes);
const char *cli_duration(char buf[32], double seconds);
const char *cli_count(char buf[32], double n);

#endif

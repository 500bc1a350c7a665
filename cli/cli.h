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
int cmd_repair(pol_context *ctx, int argc, char **argv);
void help_repair(void);
int cmd_eval(pol_context *ctx, int argc, char **argv);
void help_eval(void);
int cmd_export(pol_context *ctx, int argc, char **argv);
void help_export(void);
int cmd_inspect(pol_context *ctx, int argc, char **argv);
void help_inspect(void);
int cmd_devices(pol_context *ctx, int argc, char **argv);
void help_devices(void);
int cmd_bench(pol_context *ctx, int argc, char **argv);
void help_bench(void);

/* Choices of options, by the number of pol_text_format and pol_bos. */
extern const char *const cli_text_formats[], *const cli_bos_choices[];

/* Options that several commands have: rows of their tables, with the members of *a that have the same names. */
#define CLI_TEXT_ROWS(a)                                                                                           \
    {"format", "NAME", "of the text (auto)", CLI_CHOICE, &(a)->format, 0, 0, cli_text_formats},                    \
        {"field", "NAME", "of a JSONL object (text)", CLI_STRING, &(a)->field, 0, 0, NULL},                        \
        {"separator",                                                                                              \
         "TEXT",                                                                                                   \
         "between the documents of a plain text, for example <|endoftext|>",                                       \
         CLI_STRING,                                                                                               \
         &(a)->separator,                                                                                          \
         0,                                                                                                        \
         0,                                                                                                        \
         NULL},                                                                                                    \
    {                                                                                                              \
        "bos", "WHERE", "beginning-of-sequence token (model: as its tokenizer does)", CLI_CHOICE, &(a)->bos, 0, 0, \
            cli_bos_choices                                                                                        \
    }
#define CLI_DEVICE_ROWS(a, device_value, device_help, weights_help)                             \
    {"backend", "NAME", CLI_BACKEND_HELP, CLI_STRING, &(a)->backend, 0, 0, NULL},               \
        {"device", device_value, device_help, CLI_STRING, &(a)->device, 0, 0, NULL},            \
        {"weights", "TYPE", weights_help, CLI_CHOICE, &(a)->weights, 0, 0, pol_weight_names},   \
        {"threads", "N", "CPU threads (all)", CLI_INT, &(a)->threads, 0, 4096, NULL},           \
    {                                                                                           \
        "memory-limit", "SIZE", CLI_MEMORY_LIMIT_HELP, CLI_SIZE, &(a)->memory_limit, 0, 0, NULL \
    }
#define CLI_ONE_DEVICE_ROWS(a)                                                                     \
    CLI_DEVICE_ROWS(a, "N|NAME", "index, name or part of a name, as 'pollard devices' lists them", \
                    "what weights are stored as; 16 bits need cuda or opencl (auto: f32, with cuda bf16)")

/* Help texts of options that several commands have. */
#define CLI_BACKEND_HELP "cuda, opencl, cpu, or auto: the first of these with a device that is no CPU, else cpu (auto)"
#define CLI_MEMORY_LIMIT_HELP                                                                                         \
    "memory that may be taken (what is free; of a device's own: all); what needs more is refused, but with cuda the " \
    "layers of a model that is too large visit the device one after the other"

/* Prints the context's error as one line and gives the exit code that belongs to the status. */
int cli_failed(pol_context *ctx, const char *command, pol_status s);
int cli_usage(const char *command, const char *what);
/* NULL after a line on standard error, for a name that is no protocol. */
const pol_protocol *cli_protocol(const char *command, const char *name);
/* Values made of parts. EXIT_DONE, or EXIT_USAGE after a line on standard error. Strings point into the value. */
enum { CLI_MAX_WEIGHTS = 256 };
typedef struct cli_task {
    const char *name, *file; /* the template's own name */
} cli_task;
/* --budget (NULL: not given), --keep (below 0: not given), --embeddings in. `mode` stays the preset's where no mode and
 * no quantity is given. */
typedef struct cli_budget {
    const char *budget;
    double keep;
    bool embeddings;
} cli_budget;
int cli_parse_budget(const char *command, const cli_budget *given, pol_budget_mode *mode, pol_budget_request *request);
int cli_parse_weights(const char *command, const char *list, int64_t n, double weights[CLI_MAX_WEIGHTS]);
int cli_parse_task(const char *command, const char *option, const char *value, cli_task *out);
int cli_parse_objective(const char *command, const char *value, pol_objective_settings *out);

/* Prints one JSON object and a newline; takes the reference. EXIT_DONE, or EXIT_FAILED where it cannot be written. */
int cli_print_json(json_t *j);

/* The progress of long work on standard error: one line rewritten on a terminal, else a plain line now and then. */
typedef struct cli_progress {
    bool quiet, terminal;
    double shown; /* when, on the clock, the last line was */
    char stage[64];
} cli_progress;
void cli_progress_init(cli_progress *p, bool quiet);
void cli_progress_stage(cli_progress *p, const char *name);
/* Left out where the last line is not long ago, unless this is the `last` of its stage. */
void cli_progress_line(cli_progress *p, bool last, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* A line that stays. */
void cli_progress_note(cli_progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cli_progress_clear(cli_progress *p);
/* The library's log up to `level` as lines that stay; nothing where quiet. `p` must outlive the use of the context. */
void cli_progress_log(cli_progress *p, pol_context *ctx, pol_log_level level);

/* "opencl 0: NAME, PLATFORM"; returns its buffer. */
enum { CLI_DEVICE_BYTES = 320 };
const char *cli_device(char buf[CLI_DEVICE_BYTES], const pol_device_info *d);
/* Of layers that visit the device: "40 layers of at most 605.00 MiB visit two slots; ..." */
const char *cli_visits(char buf[CLI_DEVICE_BYTES], const pol_memory *m);

/* "1.23 GiB", "2.5 min", "134.5 M": each returns its buffer. */
const char *cli_bytes(char buf[32], double bytes);
const char *cli_duration(char buf[32], double seconds);
const char *cli_count(char buf[32], double n);

#endif

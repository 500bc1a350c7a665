/* options.h - a command's options as a table: one place for parsing, checking and help. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cli_kind {
    CLI_FLAG,   /* bool: given */
    CLI_STRING, /* const char * */
    CLI_INT,    /* int64_t within [lo, hi] */
    CLI_SIZE,   /* uint64_t bytes, with K, M, G, T of 1024 */
    CLI_REAL,   /* double within [lo, hi] */
    CLI_CHOICE, /* int: index in choices */
    CLI_FILES,  /* cli_list: may be given several times, and with several values */
    CLI_HEADING /* no option: `help` stands above those that follow; `name` is "" */
} cli_kind;

typedef struct cli_list {
    const char **items;
    int64_t n;
} cli_list;

typedef struct cli_option {
    const char *name;  /* without the dashes */
    const char *value; /* how help calls the value; NULL for flags */
    const char *help;
    cli_kind kind;
    void *target;
    double lo, hi;
    const char *const *choices; /* NULL-terminated */
} cli_option;

/* Parses argv[1..]; options anywhere, "--name value" or "--name=value", "--" ends them. Positional arguments go to
 * `args` (room for max_args). On a mistake: one line on standard error naming option and value, and false (exit code
 * 2). */
bool cli_parse(const char *command, const cli_option *options, int argc, char **argv, const char **args, int max_args,
               int *n_args);
bool cli_wants_help(int argc, char **argv); /* --help or -h among the options */
void cli_print_options(const cli_option *options);

#endif

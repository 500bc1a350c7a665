/* prune_options.h - the options that prune and estimate share, and the settings they give. */
#ifndef CLI_PRUNE_OPTIONS_H
#define CLI_PRUNE_OPTIONS_H

#include "cli.h"

typedef struct cli_prune {
    pol_prune_settings settings;
    cli_list data;
    double weights[CLI_MAX_WEIGHTS]; /* of data */
    bool quiet, json, verbose;
} cli_prune;

/* EXIT_DONE, or the exit code of a mistake that has been reported. c->data.items is the caller's to free. */
int cli_prune_parse(const char *command, int argc, char **argv, cli_prune *c);

#endif

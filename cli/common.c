/* common.c - errors, JSON, and numbers for people. */
#include <stdio.h>

#include "cli.h"

const char *const cli_text_formats[] = {[POL_TEXT_AUTO] = "auto",
                                        [POL_TEXT_PLAIN] = "plain",
                                        [POL_TEXT_JSONL] = "jsonl",
                                        [POL_TEXT_WIKITEXT] = "wikitext",
                                        NULL};
const char *const cli_bos_choices[] = {
    [POL_BOS_MODEL] = "model", [POL_BOS_DOCUMENT] = "document", [POL_BOS_SEQUENCE] = "sequence",
    [POL_BOS_NONE] = "none",   [POL_BOS_BOTH] = "both",         NULL};

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

const pol_protocol *cli_protocol(const char *command, const char *name)
{
    const pol_protocol *p = pol_protocol_find(name);
    if (p)
        return p;
    fprintf(stderr, "pollard %s: --protocol: '%s' is none of", command, name);
    for (int64_t i = 0; (p = pol_protocol_at(i)); i++)
        fprintf(stderr, "%s %s", i ? "," : "", p->name);
    fputc('\n', stderr);
    return NULL;
}

int cli_print_json(json_t *j)
{
    const bool ok = j && json_dumpf(j, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(15)) == 0 && putchar('\n') != EOF &&
                    fflush(stdout) == 0;
    json_decref(j);
    if (!ok)
        fputs("pollard: standard output: the result cannot be written\n", stderr);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

const char *cli_device(char buf[CLI_DEVICE_BYTES], const pol_device_info *d)
{
    snprintf(buf, CLI_DEVICE_BYTES, "%s %d: %s%s%s", d->backend, d->index, d->name, d->platform[0] ? ", " : "",
             d->platform);
    return buf;
}

const char *cli_visits(char buf[CLI_DEVICE_BYTES], const pol_memory *m)
{
    char a[32], b[32];
    snprintf(buf, CLI_DEVICE_BYTES,
             "%d layers of at most %s visit two slots; %s of pinned host memory; %lld passes a visit", m->n_layers,
             cli_bytes(a, (double)m->slot_bytes), cli_bytes(b, (double)m->pinned_bytes), (long long)m->placement.cells);
    return buf;
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
    if (seconds < 10)
        snprintf(buf, 32, "%.1f s", seconds);
    else if (seconds < 100)
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

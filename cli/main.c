/* main.c - `pollard COMMAND ...`: the command table, help, signals. */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

static const cli_command commands[] = {
    {"prune", "prune MODEL --data FILE... --keep SHARE --out RUN [options]",
     "Learns which heads, channels and blocks a model can do without; writes a run.", cmd_prune, help_prune},
    {"estimate", "estimate MODEL --keep SHARE [--data FILE...] [options]",
     "Prints what a prune with these options would need: memory, tokens, time. Does no work.", cmd_estimate,
     help_prune},
    {"repair", "repair RUN --data FILE... [options], or --mask FILE --model MODEL --out RUN in place of RUN",
     "Updates the weights that a run's mask keeps, in closed form, to make up for those that it removes.", cmd_repair,
     help_repair},
    {"eval", "eval MODEL|RUN [--text FILE] [--task NAME=FILE...] [options]",
     "Measures perplexity on a text and accuracy on multiple-choice files, of a model or of a run's pruned model.",
     cmd_eval, help_eval},
    {"export", "export MODEL|RUN --format zeros|hf --out DIR [options]",
     "Writes the pruned model of a run, or a model as it is, as a model folder.", cmd_export, help_export},
    {"inspect", "inspect MODEL|RUN [options]", "Shows a model's shape, or what a run kept, layer by layer.",
     cmd_inspect, help_inspect},
    {"devices", "devices [options]", "Lists the devices this build can use, and why one cannot be used.", cmd_devices,
     help_devices},
    {"bench", "bench MODEL [options]",
     "Measures passes through a model on this machine's devices; --tune-opencl makes them faster.", cmd_bench,
     help_bench},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static pol_context *signalled;

/* Asked twice: at once; the last checkpoint stands. But timeout(1) and batch systems signal both a program and its
 * group, so what follows within a second is the same request. */
static void on_signal(int number)
{
    static atomic_llong first; /* milliseconds on the clock; 0 = not asked yet */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    const long long now = t.tv_sec * 1000LL + t.tv_nsec / 1000000;
    long long before = 0;
    if (!atomic_compare_exchange_strong(&first, &before, now) && now - before >= 1000)
        _exit(128 + number);
    pol_context_stop(signalled);
}

/* A stop is asked for by these; but who started the program with one of them ignored, as nohup does, means it. */
static void stop_on(int number)
{
    const struct sigaction ours = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction theirs;
    if (sigaction(number, NULL, &theirs) == 0 && theirs.sa_handler != SIG_IGN)
        sigaction(number, &ours, NULL);
}

static void prepare_process(void)
{
    /* A file must never be opened in the place of a standard stream that was closed, and be written to as that. */
    int fd;
    do
        fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
    /* A reader that has gone and a file that may not grow are errors of writing, not a reason to lose the run. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

static const cli_command *find(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

static void overview(FILE *out)
{
    fprintf(out,
            "pollard %s - prunes large language models: whole channels, heads and blocks, with forward passes only\n\n",
            pol_version());
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].text);
    fputs("  help      pollard help COMMAND shows a command's options.\n"
          "\nMODEL is a Hugging Face folder or a GGUF file; RUN is a folder that prune wrote.\n"
          "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 unusable input, 130 interrupted (state saved).\n",
          out);
}

static int help(const char *name)
{
    if (!name || !strcmp(name, "help")) {
        overview(stdout);
        return EXIT_DONE;
    }
    const cli_command *c = find(name);
    if (!c) {
        fprintf(stderr, "pollard help: '%s' is no command; see 'pollard help'\n", name);
        return EXIT_USAGE;
    }
    printf("Usage: pollard %s\n%s\n\n", c->usage, c->text);
    c->help();
    return EXIT_DONE;
}

static int run(const cli_command *c, int argc, char **argv)
{
    if (pol_context_new(NULL, &signalled) != POL_OK) {
        fputs("pollard: no memory\n", stderr);
        return EXIT_FAILED;
    }
    stop_on(SIGINT);
    stop_on(SIGTERM);
    stop_on(SIGHUP);
    /* The context lives as long as the process: a late signal still writes to it. */
    return c->run(signalled, argc, argv);
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        overview(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        return help(argc > 2 ? argv[2] : NULL);
    if (!strcmp(argv[1], "--version")) {
        printf("pollard %s\n", pol_version());
        return EXIT_DONE;
    }
    const cli_command *c = find(argv[1]);
    if (!c) {
        fprintf(stderr, "pollard: '%s' is no command; see 'pollard help'\n", argv[1]);
        return EXIT_USAGE;
    }
    return cli_wants_help(argc - 1, argv + 1) ? help(c->name) : run(c, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    prepare_process();
    const int code = dispatch(argc, argv);
    const bool written = fflush(stdout) == 0 && !ferror(stdout);
    if (written || code != EXIT_DONE)
        return code;
    fputs("pollard: standard output: cannot be written\n", stderr); /* a failure, not a success */
    return EXIT_FAILED;
}

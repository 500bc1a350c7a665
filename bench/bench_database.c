/* bench_database.c - what the database of a model takes: statistics on calibration text, orders, rows and the file.
 *
 *   bench_database MODEL TEXT [--sequences 256] [--seq-len 128] [--batch 8] [--levels 16] [--threads 0]
 *                  [--file /tmp/pollard-bench-database.bin]
 *
 * Seconds of the clock and of all processors; memory that the process took at the most, and what was planned of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/bench.h"
#include "core/forward.h"
#include "core/repair/database.h"
#include "core/repair/walk.h"
#include "pollard/pollard.h"

typedef struct options {
    const char *model, *text, *file;
    int64_t sequences, seq_len, batch, levels, threads;
} options;

static bool parse(int argc, char **argv, options *o)
{
    const struct {
        const char *name;
        int64_t *value;
    } numbers[] = {{"--sequences", &o->sequences},
                   {"--seq-len", &o->seq_len},
                   {"--batch", &o->batch},
                   {"--levels", &o->levels},
                   {"--threads", &o->threads}};
    if (argc < 3 || argc % 2 == 0)
        return false;
    o->model = argv[1];
    o->text = argv[2];
    for (int i = 3; i < argc; i += 2) {
        bool known = !strcmp(argv[i], "--file");
        if (known)
            o->file = argv[i + 1];
        for (size_t k = 0; k < POL_COUNT(numbers); k++)
            if (!strcmp(argv[i], numbers[k].name)) {
                *numbers[k].value = atoll(argv[i + 1]);
                known = true;
            }
        if (!known)
            return false;
    }
    return true;
}

static double processor_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double peak_mib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_maxrss / 1024;
}

static void line(void *user, pol_log_level level, const char *text)
{
    (void)user;
    (void)level;
    fprintf(stderr, "%s\n", text);
}

/* One dense walk with moments, without what is made of them. */
static pol_status time_walk(pol_forward *f, const pol_sequences *cal)
{
    const unsigned both = POL_HEADS | POL_CHANNELS;
    pol_walk w = {0};
    const double start = bench_seconds(), processor = processor_seconds();
    pol_status s = pol_walk_begin(f, cal, both, &w);
    for (int32_t l = 0; s == POL_OK && l < w.m->config.n_layers; l++)
        for (int kind = POL_UNIT_GROUP; s == POL_OK && kind <= POL_UNIT_CHANNEL; kind++)
            s = pol_walk_block(&w, l, (pol_unit_kind)kind, true);
    pol_walk_end(&w);
    if (s == POL_OK)
        printf("statistics: %.1f s, of processors %.1f s\n", bench_seconds() - start, processor_seconds() - processor);
    return s;
}

static pol_status time_database(pol_context *ctx, const options *o, pol_forward *f, const pol_sequences *cal)
{
    pol_model *m = pol_forward_model(f);
    pol_database *db;
    const pol_database_settings settings = {.levels = o->levels,
                                            .align = 1,
                                            .obs_block = POL_AUTO,
                                            .damping = 0.01,
                                            .granularity = POL_HEADS | POL_CHANNELS,
                                            .identity = "00000000000000000000000000000000"};
    remove(o->file);
    const double start = bench_seconds(), processor = processor_seconds();
    POL_TRY(pol_database_open(ctx, o->file, &settings, m, &db));
    const pol_status s = pol_database_build(db, f, m->be, cal, NULL, NULL, NULL);
    pol_database_close(db);
    remove(o->file);
    POL_TRY(s);
    printf("statistics, orders and rows: %.1f s, of processors %.1f s\n", bench_seconds() - start,
           processor_seconds() - processor);
    printf("file: %.0f MiB; host memory besides model and passes, as planned: %.0f MiB and %.0f MiB of sums\n",
           (double)pol_database_file_bytes(&m->config, o->levels, 1, settings.granularity) / 0x1p20,
           (double)pol_database_host_bytes(&m->config, &settings, cal->n, cal->seq_len) / 0x1p20,
           (double)pol_gram_bytes(m->be, pol_forward_max_tokens(f), pol_widest_input(&m->config, settings.granularity),
                                  0) /
               0x1p20);
    return POL_OK;
}

static pol_status run(pol_context *ctx, const options *o)
{
    pol_source *src = NULL;
    pol_tokenizer *tok = NULL;
    pol_backend *be = NULL;
    pol_model *m = NULL;
    pol_forward *f = NULL;
    pol_sequences cal = {0};
    pol_status s = pol_source_open(ctx, o->model, &src);
    if (s == POL_OK)
        s = pol_tokenizer_open(src, &tok);
    if (s == POL_OK)
        s = pol_sequences_read(ctx, tok, pol_source_config(src)->vocab, &o->text, 1, NULL, o->seq_len, POL_BOS_MODEL,
                               o->sequences, &cal);
    if (s == POL_OK)
        s = pol_backend_open_host(ctx, (int32_t)o->threads, &be);
    if (s == POL_OK)
        s = pol_model_load(src, be, NULL, &m);
    if (s == POL_OK)
        s = pol_forward_new(m, o->batch * o->seq_len, o->seq_len, &f);
    if (s == POL_OK) {
        printf("%s: %lld sequences of %lld tokens; %.0f MiB before\n", o->model, (long long)cal.n,
               (long long)cal.seq_len, peak_mib());
        s = time_walk(f, &cal);
    }
    if (s == POL_OK)
        s = time_database(ctx, o, f, &cal);
    if (s == POL_OK)
        printf("peak: %.0f MiB\n", peak_mib());
    pol_forward_free(f);
    pol_model_free(m);
    pol_backend_close(be);
    pol_sequences_free(&cal);
    pol_tokenizer_free(tok);
    pol_source_close(src);
    return s;
}

int main(int argc, char **argv)
{
    options o = {.file = "/tmp/pollard-bench-database.bin", .sequences = 256, .seq_len = 128, .batch = 8, .levels = 16};
    pol_context *ctx;
    if (!parse(argc, argv, &o)) {
        fprintf(stderr, "bench_database MODEL TEXT [--sequences 256] [--seq-len 128] [--batch 8] [--levels 16] "
                        "[--threads 0] [--file FILE]\n");
        return 2;
    }
    if (pol_context_new(NULL, &ctx) < 0)
        return 1;
    pol_context_log(ctx, line, NULL, POL_LOG_DEBUG);
    const pol_status s = run(ctx, &o);
    if (s < 0)
        fprintf(stderr, "%s\n", pol_error_text(ctx));
    pol_context_free(ctx);
    return s < 0;
}

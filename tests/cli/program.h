/* program.h - starts `pollard` as a person would, in a temporary folder, and looks at what it says and leaves.
 *
 * A call is one line, split at spaces: pollard(t, "eval @model --text @held-out"). Words that begin with '@' are paths:
 *     @model        the trained model of tests/data
 *     @calibration  its text to learn from
 *     @held-out     its text to measure by
 *     @/NAME        NAME in the temporary folder
 */
#ifndef POL_TEST_PROGRAM_H
#define POL_TEST_PROGRAM_H

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/file.h"
#include "tests/test.h"

extern char **environ;

typedef struct cli {
    pol_context *ctx;
    char dir[64];
    const char *stdout_to; /* a file that standard output goes to, unread; "" closes it; NULL captures it */
    rlim_t file_limit;     /* bytes a file may have; 0 = no limit */
    char *out, *err;       /* of the last call */
} cli;

static inline int cli_setup(void **state)
{
    cli *t = calloc(1, sizeof *t);
    strcpy(t->dir, "/tmp/pollard-cli-XXXXXX");
    *state = t;
    setenv("OMP_NUM_THREADS", "1", 1);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    setenv("OMP_WAIT_POLICY", "passive", 1); /* threads that wait would spin in the way of other tests */
    return mkdtemp(t->dir) && pol_context_new(NULL, &t->ctx) == POL_OK ? 0 : -1;
}

static inline int cli_teardown(void **state)
{
    cli *t = *state;
    const pol_status s = pol_remove_tree(t->ctx, t->dir);
    pol_context_free(t->ctx);
    free(t->out);
    free(t->err);
    free(t);
    return s;
}

/* ---- files of the temporary folder ---- */

static inline const char *path(const cli *t, const char *name)
{
    static char buffer[8][256];
    static int turn;
    char *p = buffer[turn++ % 8];
    assert_in_range(snprintf(p, sizeof buffer[0], "%s/%s", t->dir, name), 1, sizeof buffer[0] - 1);
    return p;
}

static inline bool there(const cli *t, const char *name)
{
    struct stat st;
    return lstat(path(t, name), &st) == 0;
}

/* The whole file with a 0 behind it, yours: free(). `n` may be NULL. */
static inline char *slurp(const char *file, size_t *n)
{
    FILE *f = fopen(file, "rb");
    if (!f)
        fail_msg("%s: %s", file, strerror(errno));
    struct stat st;
    assert_int_equal(fstat(fileno(f), &st), 0);
    char *text = malloc((size_t)st.st_size + 1);
    assert_int_equal(fread(text, 1, (size_t)st.st_size, f), st.st_size);
    text[st.st_size] = 0;
    fclose(f);
    if (n)
        *n = (size_t)st.st_size;
    return text;
}

static inline void spill(const cli *t, const char *name, const void *data, size_t n)
{
    FILE *f = fopen(path(t, name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void spill_text(const cli *t, const char *name, const char *text) { spill(t, name, text, strlen(text)); }

static inline json_t *load_json(const cli *t, const char *name)
{
    json_error_t e;
    json_t *j = json_load_file(path(t, name), JSON_REJECT_DUPLICATES, &e);
    if (!j)
        fail_msg("%s: line %d: %s", name, e.line, e.text);
    return j;
}

static inline void assert_same_file(const cli *t, const char *a, const char *b)
{
    size_t na, nb;
    char *x = slurp(path(t, a), &na), *y = slurp(path(t, b), &nb);
    if (na != nb || memcmp(x, y, na))
        fail_msg("%s and %s differ", a, b);
    free(x);
    free(y);
}

/* A copy of the trained model, to be damaged. */
static inline void copy_model(const cli *t, const char *name)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    assert_int_equal(mkdir(path(t, name), 0777), 0);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char from[128], to[128];
        snprintf(from, sizeof from, "models/trained/%s", files[i]);
        snprintf(to, sizeof to, "%s/%s", name, files[i]);
        assert_ok(t->ctx, pol_file_copy(t->ctx, test_file(from), path(t, to)));
    }
}

/* ---- calls ---- */

enum { MAX_WORDS = 64 };

static inline const char *word_path(const cli *t, const char *word)
{
    if (!strcmp(word, "@model"))
        return test_file("models/trained");
    if (!strcmp(word, "@calibration"))
        return test_file("text/calibration.txt");
    if (!strcmp(word, "@held-out"))
        return test_file("text/held-out.txt");
    return word[0] == '@' && word[1] == '/' ? path(t, word + 2) : word;
}

static inline pid_t spawn(cli *t, char **argv)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    pid_t pid;
    posix_spawn_file_actions_init(&files);
    const int create = O_WRONLY | O_CREAT | O_TRUNC;
    if (t->stdout_to && !*t->stdout_to)
        posix_spawn_file_actions_addclose(&files, STDOUT_FILENO);
    else
        posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, t->stdout_to ? t->stdout_to : path(t, "stdout"), create,
                                         0666);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, path(t, "stderr"), create, 0666);
    /* A test started in the background inherits ignored signals. */
    sigfillset(&defaults);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    struct rlimit before, limited;
    getrlimit(RLIMIT_FSIZE, &before);
    limited = (struct rlimit){t->file_limit ? t->file_limit : before.rlim_cur, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limited);
    const int e = posix_spawn(&pid, POL_TEST_PROGRAM, &files, &attributes, argv, environ);
    setrlimit(RLIMIT_FSIZE, &before);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    if (e)
        fail_msg("%s: %s", POL_TEST_PROGRAM, strerror(e));
    return pid;
}

static inline pid_t start(cli *t, const char *call)
{
    char *words = strdup(call), *argv[MAX_WORDS + 2] = {"pollard"};
    int n = 1;
    for (char *w = strtok(words, " "); w; w = strtok(NULL, " ")) {
        assert_in_range(n, 1, MAX_WORDS);
        argv[n++] = strdup(word_path(t, w));
    }
    const pid_t pid = spawn(t, argv);
    while (n > 1)
        free(argv[--n]);
    free(words);
    return pid;
}

/* The exit code, or 1000 + the signal that ended it. t->out and t->err are what it said. */
static inline int finish(cli *t, pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    free(t->out);
    free(t->err);
    t->out = t->stdout_to ? strdup("") : slurp(path(t, "stdout"), NULL);
    t->err = slurp(path(t, "stderr"), NULL);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static inline int pollard(cli *t, const char *call) { return finish(t, start(t, call)); }

/* ---- what is expected of a call ---- */

#define assert_call(t, code, call)                                                                                   \
    do {                                                                                                             \
        const int call_code_ = pollard(t, call);                                                                     \
        if (call_code_ != (code))                                                                                    \
            fail_msg("pollard %s: exit code %d, not %d; it said: %s%s", call, call_code_, code, (t)->err, (t)->out); \
    } while (0)

#define assert_says(text, part)                                      \
    do {                                                             \
        if (!strstr(text, part))                                     \
            fail_msg("'%s' is not in what it said: %s", part, text); \
    } while (0)

static inline int lines_of(const char *text)
{
    int n = 0;
    for (; (text = strchr(text, '\n')); text++)
        n++;
    return n;
}

/* A failed call says one line on standard error, in which all `parts` (NULL at the end) stand, and nothing else. */
static inline void assert_refused(cli *t, int code, const char *call, const char *const *parts)
{
    assert_call(t, code, call);
    assert_string_equal(t->out, "");
    if (lines_of(t->err) != 1 || strncmp(t->err, "pollard", 7))
        fail_msg("pollard %s: not one line: %s", call, t->err);
    for (; *parts; parts++)
        assert_says(t->err, *parts);
}

#define refused(t, code, call, ...) assert_refused(t, code, call, (const char *const[]){__VA_ARGS__, NULL})

/* The one JSON object that a call with --json prints. Yours: json_decref(). */
static inline json_t *call_json(cli *t, const char *call)
{
    json_error_t e;
    assert_call(t, 0, call);
    json_t *j = json_loads(t->out, JSON_REJECT_DUPLICATES, &e); /* refuses anything behind the object */
    if (!j)
        fail_msg("pollard %s: not one JSON object: %s", call, e.text);
    return j;
}

static inline json_t *at(const json_t *j, const char *dotted)
{
    char *keys = strdup(dotted);
    const json_t *v = j;
    for (char *k = strtok(keys, "."); k; k = strtok(NULL, "."))
        v = json_object_get(v, k);
    if (!v)
        fail_msg("no '%s' in the JSON", dotted);
    free(keys);
    return (json_t *)v;
}
static inline double num(const json_t *j, const char *dotted) { return json_number_value(at(j, dotted)); }
static inline int64_t whole(const json_t *j, const char *dotted)
{
    assert_true(json_is_integer(at(j, dotted)));
    return json_integer_value(at(j, dotted));
}
static inline const char *text(const json_t *j, const char *dotted)
{
    assert_true(json_is_string(at(j, dotted)));
    return json_string_value(at(j, dotted));
}

#endif

/* folder.c - the folder of a run: made or taken up, held by one process, removed where a run never got going. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/run/mend.h"
#include "core/run/run.h"

static const char *const files[] = {POL_RUN_JSON,       POL_RUN_LOG,      POL_RUN_MASK,    POL_RUN_INITIAL,
                                    POL_RUN_CHECKPOINT, POL_RUN_DATABASE, POL_RUN_REPAIRED};

static bool is_part_of_run(const char *name)
{
    for (size_t i = 0; i < POL_COUNT(files); i++)
        if (pol_path_is_part(name, files[i]))
            return true;
    return false;
}

/* Removes what killed processes were writing; *n gets the number of other files. */
static pol_status tidy(pol_run_folder *f, int64_t *n)
{
    DIR *d = opendir(f->path);
    if (!d)
        return pol_fail(f->ctx, POL_EIO, "%s: folder cannot be read: %s", f->path, strerror(errno));
    *n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (!is_part_of_run(e->d_name) || unlinkat(dirfd(d), e->d_name, 0) < 0)
            ++*n;
    }
    closedir(d);
    return POL_OK;
}

static pol_status name_files(pol_run_folder *f, const char *path)
{
    f->path = pol_strdup(f->ctx, path);
    f->json = pol_path_join(f->ctx, path, POL_RUN_JSON);
    f->log = pol_path_join(f->ctx, path, POL_RUN_LOG);
    f->mask = pol_path_join(f->ctx, path, POL_RUN_MASK);
    f->initial = pol_path_join(f->ctx, path, POL_RUN_INITIAL);
    f->checkpoint = pol_path_join(f->ctx, path, POL_RUN_CHECKPOINT);
    f->database = pol_path_join(f->ctx, path, POL_RUN_DATABASE);
    return f->path && f->json && f->log && f->mask && f->initial && f->checkpoint && f->database ? POL_OK : POL_ENOMEM;
}

static pol_status hold(pol_run_folder *f)
{
    f->lock = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->lock < 0)
        return pol_fail(f->ctx, POL_EIO, "%s: folder cannot be opened: %s", f->path, strerror(errno));
    if (flock(f->lock, LOCK_EX | LOCK_NB) == 0)
        return POL_OK;
    if (errno == EWOULDBLOCK)
        return pol_fail(f->ctx, POL_EIO, "%s: another process works on this run", f->path);
    return pol_fail(f->ctx, POL_EIO, "%s: folder cannot be locked: %s", f->path, strerror(errno));
}

/* A run that was killed before its first file leaves an empty folder, which is as good as a new one. */
static pol_status take_up(pol_run_folder *f)
{
    int64_t others;
    POL_TRY(tidy(f, &others));
    if (others && !pol_path_exists(f->json))
        return pol_fail(f->ctx, POL_EIO, "%s: no run to go on with: it has no " POL_RUN_JSON, f->path);
    return POL_OK;
}

static pol_status enter(pol_run_folder *f, bool resume)
{
    f->made = mkdir(f->path, 0777) == 0;
    if (!f->made && errno != EEXIST)
        return pol_fail(f->ctx, POL_EIO, "%s: folder cannot be made: %s", f->path, strerror(errno));
    if (!f->made && !resume)
        return pol_fail(f->ctx, POL_EIO,
                        "%s: exists already; --resume goes on with a run, a new one needs a new folder", f->path);
    POL_TRY(hold(f));
    return f->made ? POL_OK : take_up(f);
}

pol_status pol_run_folder_open(pol_context *ctx, const char *path, bool resume, pol_run_folder *f)
{
    *f = (pol_run_folder){.ctx = ctx, .lock = -1};
    pol_status s = name_files(f, path);
    if (s == POL_OK)
        s = enter(f, resume);
    if (s < 0) {
        if (f->made)
            rmdir(f->path);
        pol_run_folder_close(f);
    }
    return s;
}

void pol_run_folder_discard(pol_run_folder *f)
{
    int64_t others;
    (void)tidy(f, &others);
    for (size_t i = 0; i < POL_COUNT(files); i++)
        unlinkat(f->lock, files[i], 0);
    (void)pol_mend_tidy(f->ctx, f->path, false);
    rmdir(f->path);
}

void pol_run_folder_close(pol_run_folder *f)
{
    if (!f->ctx)
        return;
    if (f->lock >= 0)
        close(f->lock);
    pol_free(f->ctx, f->path);
    pol_free(f->ctx, f->json);
    pol_free(f->ctx, f->log);
    pol_free(f->ctx, f->mask);
    pol_free(f->ctx, f->initial);
    pol_free(f->ctx, f->checkpoint);
    pol_free(f->ctx, f->database);
    memset(f, 0, sizeof *f);
}

/* step_log.c - log.jsonl: a line a step, cut back to the checkpoint when a run goes on. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/run/run.h"

/* Bytes of the lines whose step is below `next`: lines come in order, and the last may be torn. */
static size_t kept_bytes(const char *text, size_t n, int64_t next)
{
    size_t at = 0;
    while (at < n) {
        const char *end = memchr(text + at, '\n', n - at);
        if (!end)
            break;
        json_t *line = json_loadb(text + at, (size_t)(end - text) - at, 0, NULL);
        const json_t *step = json_object_get(line, "step");
        const bool keep = json_is_integer(step) && json_integer_value(step) < next;
        json_decref(line);
        if (!keep)
            break;
        at = (size_t)(end - text) + 1;
    }
    return at;
}

pol_status pol_step_log_open(pol_context *ctx, const char *path, int64_t next, pol_step_log *log)
{
    memset(log, 0, sizeof *log);
    log->ctx = ctx;
    if (pol_path_exists(path)) {
        pol_map m;
        POL_TRY(pol_map_open(ctx, path, &m));
        const size_t keep = kept_bytes((const char *)m.data, m.size, next);
        const bool cut = keep < m.size;
        pol_map_close(&m);
        if (cut && truncate(path, (off_t)keep) < 0)
            return pol_fail(ctx, POL_EIO, "%s: cannot be cut back to step %lld: %s", path, (long long)next,
                            strerror(errno));
    }
    log->path = pol_strdup(ctx, path);
    if (!log->path)
        return POL_ENOMEM;
    log->stream = fopen(path, "ae");
    if (!log->stream) {
        pol_status s = pol_fail(ctx, POL_EIO, "%s: cannot be written: %s", path, strerror(errno));
        pol_free(ctx, log->path);
        log->path = NULL;
        return s;
    }
    return POL_OK;
}

pol_status pol_step_log_add(pol_step_log *log, const json_t *line)
{
    if (json_dumpf(line, log->stream, JSON_COMPACT | JSON_REAL_PRECISION(9)) < 0 || fputc('\n', log->stream) == EOF ||
        fflush(log->stream) != 0)
        return pol_fail(log->ctx, POL_EIO, "%s: cannot be written: %s", log->path, strerror(errno));
    return POL_OK;
}

pol_status pol_step_log_sync(pol_step_log *log)
{
    if (log->stream && fsync(fileno(log->stream)) < 0)
        return pol_fail(log->ctx, POL_EIO, "%s: cannot be written: %s", log->path, strerror(errno));
    return POL_OK;
}

pol_status pol_step_log_close(pol_step_log *log)
{
    pol_status s = POL_OK;
    if (log->stream && fclose(log->stream) != 0)
        s = pol_fail(log->ctx, POL_EIO, "%s: cannot be written: %s", log->path, strerror(errno));
    if (log->ctx)
        pol_free(log->ctx, log->path);
    memset(log, 0, sizeof *log);
    return s;
}

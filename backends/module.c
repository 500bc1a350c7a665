/* module.c - opening a backend that is a library of its own.
 *
 * It lies beside libpollard, or in the folder pollard there; POLLARD_MODULE_DIR names another place. What it needs may
 * be absent or of another version: that is said, and the other backends go on. Once opened it stays in the process, so
 * that a driver got from it is good for as long as that, and nothing has to be kept here.
 */
#include "backends/module.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/drivers.h"
#include "core/base/file.h"
#include "pollard/version.h"

/* The file that this code is in, made absolute; NULL where it is gone. Yours: free(). */
static char *own_file(void)
{
    static const char here = 0;
    struct link_map *map = NULL;
    Dl_info unused;
    if (!dladdr1(&here, &unused, (void **)&map, RTLD_DL_LINKMAP) || !map)
        return NULL;
    return realpath(map->l_name[0] ? map->l_name : "/proc/self/exe", NULL); /* a program's own map has no name */
}

/* `file` in `folder`, if it is there; else *out is NULL. *out is yours: pol_free(). */
static pol_status find_in(pol_context *ctx, const char *folder, const char *file, char **out)
{
    char *path = pol_path_join(ctx, folder, file);
    if (!path)
        return POL_ENOMEM;
    if (pol_path_exists(path)) {
        *out = path;
        return POL_OK;
    }
    pol_free(ctx, path);
    return POL_OK;
}

static pol_status find_beside(pol_context *ctx, const char *file, char **out)
{
    char inner[80], *own = own_file(), *slash = own ? strrchr(own, '/') : NULL;
    pol_status s = POL_OK;
    snprintf(inner, sizeof inner, "pollard/%s", file);
    if (slash) {
        *slash = 0;
        s = find_in(ctx, own, file, out);
        if (s == POL_OK && !*out)
            s = find_in(ctx, own, inner, out);
    }
    free(own);
    return s;
}

/* What dlopen said of `path` ("FILE: what is wrong"); `needs` says who has the libraries that may be missing. */
static void note_unopened(const char *file, const char *path, const char *needs, char note[POL_NOTE_BYTES])
{
    static const char missing[] = ": cannot open shared object file: No such file or directory";
    const char *text = dlerror(), *is_missing = text ? strstr(text, missing) : NULL;
    const size_t n = strlen(path);
    if (is_missing && strncmp(text, path, n)) {
        snprintf(note, POL_NOTE_BYTES, "%s needs %.*s, which is not installed: it is in %s", file,
                 (int)(is_missing - text), text, needs);
        return;
    }
    if (text && !strncmp(text, path, n) && !strncmp(text + n, ": ", 2))
        text += n + 2;
    snprintf(note, POL_NOTE_BYTES, "%s cannot be opened: %s", file, text ? text : "unknown reason");
}

/* Whether it and this library are of the same build, as far as they can tell. */
static bool agrees(const char *file, const pol_module *m, char note[POL_NOTE_BYTES])
{
    if (m->abi != POL_OPS_ABI)
        snprintf(note, POL_NOTE_BYTES, "%s is of another version of Pollard: its interface is %u, this one's is %u",
                 file, m->abi, (unsigned)POL_OPS_ABI);
    else if (strcmp(m->version, POL_VERSION_STRING) != 0)
        snprintf(note, POL_NOTE_BYTES, "%s is of Pollard %s, this is %s", file, m->version, POL_VERSION_STRING);
    else if (m->ops_size != sizeof(pol_ops))
        snprintf(note, POL_NOTE_BYTES, "%s is of another build of Pollard: its table has %u bytes, this one's has %zu",
                 file, m->ops_size, sizeof(pol_ops));
    else
        return true;
    return false;
}

static const pol_backend_driver *open_file(const char *file, const char *path, const char *needs,
                                           char note[POL_NOTE_BYTES])
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        note_unopened(file, path, needs, note);
        return NULL;
    }
    pol_module_about_fn *about = NULL;
    void *symbol = dlsym(library, POL_MODULE_ABOUT);
    memcpy(&about, &symbol, sizeof about); /* C has no conversion to a function's address */
    dlclose(library);                      /* it stays: RTLD_NODELETE */
    if (!about) {
        snprintf(note, POL_NOTE_BYTES, "%s is no module of Pollard: it has no symbol " POL_MODULE_ABOUT, file);
        return NULL;
    }
    const pol_module *m = about();
    return agrees(file, m, note) ? m->driver : NULL;
}

pol_status pol_module_open(pol_context *ctx, pol_backend_summary *about, const char *needs,
                           const pol_backend_driver **out)
{
    char file[64], *path = NULL;
    const char *named = getenv("POLLARD_MODULE_DIR"), *folder = named && *named ? named : NULL;
    *out = NULL;
    snprintf(file, sizeof file, "libpollard-%s.so", about->name);
    POL_TRY(folder ? find_in(ctx, folder, file, &path) : find_beside(ctx, file, &path));
    about->built = path != NULL;
    if (path)
        *out = open_file(file, path, needs, about->note);
    else if (folder)
        snprintf(about->note, sizeof about->note, "%s is not in POLLARD_MODULE_DIR, which is '%s'", file, folder);
    else
        snprintf(about->note, sizeof about->note,
                 "%s is not beside the program: this build has no %s backend (docs/%s.md)", file, about->name,
                 about->name);
    pol_free(ctx, path);
    return POL_OK;
}

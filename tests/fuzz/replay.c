/* replay.c - runs a fuzz target over every file of the folders and files named: the regression corpus in ordinary CI. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static long replay(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        fprintf(stderr, "%s: not there\n", path);
        exit(1);
    }
    if (S_ISDIR(st.st_mode)) {
        DIR *d = opendir(path);
        long n = 0;
        for (struct dirent *e; d && (e = readdir(d));) {
            char sub[4096];
            if (e->d_name[0] == '.')
                continue;
            snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
            n += replay(sub);
        }
        if (d)
            closedir(d);
        return n;
    }
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc((size_t)st.st_size + 1);
    if (!f || !data || fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    fclose(f);
    /* An exact-size block, so that a sanitizer sees a read past the end. */
    uint8_t *exact = malloc((size_t)st.st_size ? (size_t)st.st_size : 1);
    for (long i = 0; i < (long)st.st_size; i++)
        exact[i] = data[i];
    free(data);
    LLVMFuzzerTestOneInput(exact, (size_t)st.st_size);
    free(exact);
    return 1;
}

int main(int argc, char **argv)
{
    long n = 0;
    for (int i = 1; i < argc; i++)
        n += replay(argv[i]);
    printf("%d corpora, %ld inputs\n", argc - 1, n);
    return n > 0 ? 0 : 1; /* an empty corpus proves nothing */
}

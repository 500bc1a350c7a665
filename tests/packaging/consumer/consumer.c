/* consumer.c - a program outside the project: sees the installed headers and library only. */
#include <stdio.h>
#include <string.h>

#include <pollard/context.h>
#include <pollard/source.h>
#include <pollard/version.h>

int main(void)
{
    pol_context *ctx = NULL;
    if (pol_context_new(NULL, &ctx) != POL_OK)
        return 1;
    pol_source *model = NULL;
    const pol_status s = pol_source_open(ctx, "/no/such/model", &model);
    if (s != POL_EIO || model || !strstr(pol_error_text(ctx), "/no/such/model")) {
        fprintf(stderr, "unexpected: %s, '%s'\n", pol_status_name(s), pol_error_text(ctx));
        return 1;
    }
    pol_context_free(ctx);
    if (strcmp(pol_version(), POL_VERSION_STRING) != 0) {
        fprintf(stderr, "the headers are of %s, the library is %s\n", POL_VERSION_STRING, pol_version());
        return 1;
    }
    printf("consumer: Pollard %s\n", pol_version());
    return 0;
}

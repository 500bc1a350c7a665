/* test.h - what every cmocka program includes; and the few helpers that all share. */
#ifndef POL_TEST_H
#define POL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pollard/context.h"

/* Fails with the library's own sentence. */
#define assert_ok(ctx, call)                                                             \
    do {                                                                                 \
        pol_status assert_ok_s_ = (call);                                                \
        if (assert_ok_s_ != POL_OK)                                                      \
            fail_msg("%s: %s (%s)", #call, pol_status_name(assert_ok_s_), pol_error_text(ctx)); \
    } while (0)

/* The exact code, and a part of the message. */
#define assert_fails(ctx, call, code, part)                                                       \
    do {                                                                                          \
        pol_status assert_fails_s_ = (call);                                                      \
        if (assert_fails_s_ != (code))                                                            \
            fail_msg("%s: got %s, expected %s (%s)", #call, pol_status_name(assert_fails_s_), pol_status_name(code), \
                     pol_error_text(ctx));                                                        \
        if (!strstr(pol_error_text(ctx), part))                                                   \
            fail_msg("%s: message '%s' lacks '%s'", #call, pol_error_text(ctx), part);            \
    } while (0)

/* NaN fails, as it must. */
#define assert_near(a, b, tol)                                                                                  \
    do {                                                                                                        \
        const double near_a_ = (a), near_b_ = (b), near_t_ = (tol);                                             \
        if (!(near_a_ - near_b_ <= near_t_ && near_b_ - near_a_ <= near_t_))                                    \
            fail_msg("%s = %.12g, expected %.12g within %.3g", #a, near_a_, near_b_, near_t_);                  \
    } while (0)

/* The group fixture of programs whose state is a context: cmocka_run_group_tests(tests, test_context_open, ...close). */
static inline int test_context_open(void **state)
{
    return pol_context_new(NULL, (pol_context **)state) == POL_OK ? 0 : -1;
}

static inline int test_context_close(void **state)
{
    pol_context_free(*state);
    return 0;
}

/* A file of the shared data folder (tests/../../shared/data, or $POLLARD_TEST_SHARED); the test is skipped where it is absent. */
static inline const char *shared_file(const char *name)
{
    static char path[4][4096];
    static int turn;
    const char *dir = getenv("POLLARD_TEST_SHARED");
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir ? dir : POL_TEST_SHARED, name);
    FILE *f = fopen(p, "rb");
    if (!f) {
        printf("skipped: %s is not there\n", p);
        skip();
    }
    fclose(f);
    return p;
}

static inline const char *test_file(const char *name)
{
    static char path[4][4096];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", POL_TEST_DATA, name);
    return p;
}

#endif

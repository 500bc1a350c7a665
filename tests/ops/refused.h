/* refused.h - calls outside the contract; `ctx` and `be` are the program's. */
#ifndef POL_TEST_REFUSED_H
#define POL_TEST_REFUSED_H

#include "tests/test.h"

/* A valid call in `a`, one field changed, refused. */
#define REFUSED(op, a, change, code, part)               \
    do {                                                 \
        __typeof__(a) changed = a;                       \
        changed.change;                                  \
        assert_fails(ctx, op(be, &changed), code, part); \
    } while (0)

#endif

/* ration.h - an allocator that lets so many more blocks be made and then refuses, for tests of memory that runs out. */
#ifndef POL_TEST_RATION_H
#define POL_TEST_RATION_H

#include <stdint.h>
#include <stdlib.h>

#include "pollard/context.h"

static inline void *ration_realloc(void *user, void *block, size_t bytes)
{
    int64_t *left = user;
    return (*left)-- > 0 ? realloc(block, bytes) : NULL;
}

static inline void ration_free(void *user, void *block)
{
    (void)user;
    free(block);
}

/* `left` is counted down, and is the caller's to set anew. */
static inline pol_allocator ration(int64_t *left) { return (pol_allocator){left, ration_realloc, ration_free}; }

#endif

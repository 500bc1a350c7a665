/* protocol.c - the protocols that published perplexities were measured by. */
#include <stddef.h>
#include <string.h>

#include "core/base/base.h"
#include "pollard/eval.h"

static const pol_protocol protocols[] = {
    {"paper", 128, POL_BOS_MODEL,
     "one text, chunks of 128 tokens without overlap, 127 targets each; as in the pruning papers"},
    {"standard", 2048, POL_BOS_MODEL,
     "one text, chunks of 2048 tokens without overlap, 2047 targets each; as in most tables"},
};

const pol_protocol *pol_protocol_at(int64_t i)
{
    return i >= 0 && i < (int64_t)POL_COUNT(protocols) ? &protocols[i] : NULL;
}

const pol_protocol *pol_protocol_find(const char *name)
{
    for (size_t i = 0; i < POL_COUNT(protocols); i++)
        if (!strcmp(protocols[i].name, name))
            return &protocols[i];
    return NULL;
}

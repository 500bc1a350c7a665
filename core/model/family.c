/* family.c - the family table. The next family with the same block is one more row. */
#include "core/model/family.h"

#include <string.h>

static const pol_family families[] = {
    /* LLaMA 1, 2 and 3, and what was trained on its architecture: Vicuna, TinyLlama, SmolLM2, Yi, ... */
    {.name = "llama", .architecture = "llama", .positions = 2048, .biased = true, .interleaved = true},
    {.name = "mistral", .groups = 8, .positions = 131072, .windowed = true, .window = 4096},
};

static bool is(const char *literal, const char *name, size_t n)
{
    return literal && strlen(literal) == n && !memcmp(literal, name, n);
}

const pol_family *pol_family_of_model_type(const char *name, size_t n)
{
    for (size_t i = 0; i < POL_COUNT(families); i++)
        if (is(families[i].name, name, n))
            return &families[i];
    return NULL;
}

const pol_family *pol_family_of_architecture(const char *name, size_t n)
{
    for (size_t i = 0; i < POL_COUNT(families); i++)
        if (is(families[i].architecture, name, n))
            return &families[i];
    return NULL;
}

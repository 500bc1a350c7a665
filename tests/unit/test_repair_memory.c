/* test_repair_memory.c - what a repair takes of the host's memory is about what it says: not more, and not much less.
 */
#include <unistd.h>

#include "core/base/file.h"
#include "core/forward.h"
#include "core/repair/repair.h"
#include "tests/loaded_model.h"

enum { S = 64, B = 4, SEQUENCES = 100, HEADER = 16 }; /* a block's size stands before it */

typedef struct counter {
    int64_t live, peak;
} counter;

static void *counted_realloc(void *user, void *block, size_t bytes)
{
    counter *c = user;
    char *old = block ? (char *)block - HEADER : NULL;
    const int64_t before = old ? *(int64_t *)(void *)old : 0;
    char *now = realloc(old, HEADER + bytes);
    if (!now)
        return NULL;
    *(int64_t *)(void *)now = (int64_t)bytes;
    c->live += (int64_t)bytes - before;
    c->peak = c->live > c->peak ? c->live : c->peak;
    return now + HEADER;
}

static void counted_free(void *user, void *block)
{
    counter *c = user;
    char *old = (char *)block - HEADER;
    c->live -= *(int64_t *)(void *)old;
    free(old);
}

/* The CPU's device memory is the same heap: it is told apart by the backend's own count. */
static void check(pol_repair_kind kind, unsigned targets, double refit)
{
    static int32_t ids[SEQUENCES * S];
    counter c = {0};
    const pol_allocator a = {&c, counted_realloc, counted_free};
    char dir[] = "/tmp/pollard-repair-XXXXXX", half[64], local[64];
    pol_context *ctx;
    loaded m;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(pol_context_new(&a, &ctx), POL_OK);
    load_placed(&m, ctx, open_cpu(ctx), test_file("models/trained"), NULL, B, S);
    uint8_t *mask = malloc((size_t)m.units->n);
    for (int64_t i = 0; i < m.units->n; i++)
        mask[i] = i >= m.units->n_of[POL_UNIT_GROUP] + m.units->n_of[POL_UNIT_CHANNEL] || i % 4;
    for (int i = 0; i < SEQUENCES * S; i++)
        ids[i] = (i * 37 + i / 11) % pol_model_config(m.model)->vocab;
    const pol_sequences cal = {.ctx = ctx, .n = SEQUENCES, .seq_len = S, .ids = ids};
    pol_repair_job j = {.f = m.forward, .host = m.be, .mask = mask, .cal = &cal, .identity = "memory"};
    snprintf(half, sizeof half, "%s/half", dir);
    snprintf(local, sizeof local, "%s/local", dir);
    pol_repair_defaults(&j.o);
    j.o.kind = kind;
    j.o.targets = targets;
    j.o.refit_inputs = refit;
    j.o.sequences = SEQUENCES;
    j.path[POL_REPAIR_HALF] = half;
    j.path[POL_REPAIR_LOCAL] = local;
    const int64_t live = c.live, device = (int64_t)m.be->bytes_in_use;
    const double said = (double)pol_repair_host_bytes(pol_model_config(m.model), &j.o, SEQUENCES, S);
    c.peak = c.live;
    assert_ok(ctx, pol_repair_run(&j, NULL));
    const double taken = (double)(c.peak - live - ((int64_t)m.be->bytes_peak - device));
    printf("%s, targets %u, re-fit %g: %.0f bytes said, %.0f taken\n", pol_repair_names[kind], targets, refit, said,
           taken);
    assert_true(taken < 1.2 * said + 65536);
    assert_true(taken > 0.6 * said);
    assert_int_equal(c.live - (int64_t)m.be->bytes_in_use, live - device); /* and all of it is given back */
    free(mask);
    unload(&m);
    assert_ok(ctx, pol_remove_tree(ctx, dir));
    pol_context_free(ctx);
}

static void test_host_memory(void **state)
{
    (void)state;
    check(POL_REPAIR_RIDGE, 1u << POL_REPAIR_HALF | 1u << POL_REPAIR_LOCAL, 0);
    check(POL_REPAIR_RIDGE, 1u << POL_REPAIR_LOCAL, 0);
    check(POL_REPAIR_RIDGE, 1u << POL_REPAIR_HALF, 0.5);
    check(POL_REPAIR_BIAS, 1u << POL_REPAIR_HALF, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_host_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

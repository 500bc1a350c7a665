#include "tests/cuda/profiles.h"

enum { SMALL_SHARED = 48 << 10, SMALL_STAGING = 256 };

const test_profile test_profiles[] = {
    {.name = "as the device reports"},
    {.name = "plain attention, nothing fused, no workspace",
     .ops = " project project_swiglu project_add attention nll gram ",
     .max_S = 200,
     .use = {.attention = POL_CU_ATTENTION_PLAIN, .fuse = CU_FUSE_NEVER, .workspace_bytes = 1}},
    {.name = "attention in one pass, all fused",
     .ops = " project_swiglu attention ",
     .max_S = 200,
     .use = {.attention = POL_CU_ATTENTION_ONE_PASS, .fuse = CU_FUSE_ALWAYS}},
    {.name = "attention online", .ops = " attention ", .max_S = 200, .use = {.attention = POL_CU_ATTENTION_ONLINE}},
    {.name = "little shared memory and staging",
     .ops = " attention swap_units embed ",
     .max_S = 200,
     .use = {.max_shared_bytes = SMALL_SHARED, .staging_bytes = SMALL_STAGING}},
};
const size_t n_test_profiles = POL_COUNT(test_profiles);

pol_backend *open_profile(pol_context *ctx, const test_profile *p)
{
    const cu_profile *wanted = &p->use;
    cu_profile use;
    pol_backend *be;
    assert_ok(ctx, cu_profile_of(ctx, 0, &use));
    use.attention = wanted->attention;
    use.fuse = wanted->fuse;
    use.max_shared_bytes = wanted->max_shared_bytes ? wanted->max_shared_bytes : use.max_shared_bytes;
    use.workspace_bytes = wanted->workspace_bytes ? wanted->workspace_bytes : use.workspace_bytes;
    use.staging_bytes = wanted->staging_bytes ? wanted->staging_bytes : use.staging_bytes;
    assert_ok(ctx, pol_cuda_open(ctx, 0, &use, &be));
    return be;
}

pol_backend *open_small(pol_context *ctx, size_t staging_bytes)
{
    return open_profile(ctx, &(test_profile){.use = {.staging_bytes = staging_bytes, .workspace_bytes = 4096}});
}

static void set(const char *name, long long value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", value);
    assert_int_equal(setenv(name, text, 1), 0);
}

void switch_on(int devices, uint64_t memory_bytes)
{
    set("POLLARD_SIM_DEVICES", devices);
    if (memory_bytes)
        set("POLLARD_SIM_MEMORY", (long long)memory_bytes);
    else
        unsetenv("POLLARD_SIM_MEMORY");
    sim_restart();
}

void assert_clean(void)
{
    assert_int_equal(sim_leaks(), 0);
    assert_int_equal(sim_counted().misuses, 0);
}

/* test_maskfile.c - mask.json: there and back, and refused by name. */
#include <math.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/mask/maskfile.h"
#include "tests/test.h"
#include "toy.h"

static void test_round_trip(void **state)
{
    pol_context *ctx = *state;
    pol_config c = toy_config(3, 4, 33);
    c.layers[1].n_groups = 0;
    pol_units *u;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    char dir[] = "/tmp/pollard-mask-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *path = pol_path_join(ctx, dir, "mask.json");
    toy_random random = {.seed = 11};
    static const unsigned granularity[] = {POL_HEADS | POL_CHANNELS | POL_BLOCKS, POL_HEADS | POL_CHANNELS,
                                           POL_CHANNELS, POL_BLOCKS};
    for (int round = 0; round < 40; round++) {
        uint8_t mask[128], back[128];
        float s[128], s_back[128];
        for (int64_t i = 0; i < u->n; i++)
            mask[i] = toy_uniform(&random) < 0.7;
        for (int64_t k = 0; k < u->n_sections; k++)
            for (int64_t i = u->sections[k].first; i < u->sections[k].first + u->sections[k].count; i++) {
                s[i] = 1;
                if (granularity[round % 4] >> u->sections[k].kind & 1)
                    s[i] = (float)pow(toy_uniform(&random), round % 4 ? 1 : 40); /* denormal numbers among them */
            }
        s[u->n - 1] = 1;
        const bool with_s = round % 5;
        assert_ok(ctx, pol_mask_write(ctx, path, u, granularity[round % 4], mask, with_s ? s : NULL));
        unsigned g;
        assert_ok(ctx, pol_mask_read(ctx, path, u, &g, back, with_s && round % 2 ? s_back : NULL));
        assert_int_equal(g, granularity[round % 4]);
        assert_memory_equal(mask, back, (size_t)u->n);
        if (with_s && round % 2)
            assert_memory_equal(s, s_back, (size_t)u->n * sizeof *s);
        if (!with_s)
            assert_fails(ctx, pol_mask_read(ctx, path, u, &g, back, s_back), POL_EFORMAT, "'probability' is missing");
    }
    float s[128] = {0};
    uint8_t mask[128] = {0};
    s[3] = NAN;
    assert_fails(ctx, pol_mask_write(ctx, path, u, POL_CHANNELS, mask, s), POL_ENUMERIC,
                 "mask.json: probability of unit 3 is nan");
    assert_fails(ctx, pol_mask_write(ctx, path, u, 0, mask, NULL), POL_EARG, "granularity");
    assert_ok(ctx, pol_remove_tree(ctx, dir));
    pol_free(ctx, path);
    pol_units_free(u);
}

static const char GOOD[] =
    "{'format':'pollard-mask','version':1,'granularity':['heads','channels','mlp_blocks'],'layers':[{"
    "'heads':{'count':2,'kept':[1],'probability':[0.25,1]},"
    "'channels':{'count':3,'kept':[0,2],'probability':[0.5,0,1]},"
    "'attention_block':{'kept':true},'mlp_block':{'kept':true,'probability':0.75}}],"
    "'params':{'dense':456,'kept':240}}";

/* GOOD with one piece replaced; single quotes stand for double ones. */
static pol_status read_edited(pol_context *ctx, const pol_units *u, const char *from, const char *to, uint8_t *mask,
                              float *s)
{
    char text[1024];
    const char *at = strstr(GOOD, from);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - GOOD), GOOD, to, at + strlen(from));
    for (char *p = text; *p; p++)
        if (*p == '\'')
            *p = '"';
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    unsigned g;
    const pol_status status = pol_mask_from_json(ctx, "m.json", j, u, &g, mask, s);
    json_decref(j);
    return status;
}

static void test_bad_files(void **state)
{
    pol_context *ctx = *state;
    const pol_config c = toy_config(1, 2, 3);
    pol_units *u;
    assert_ok(ctx, pol_units_new(ctx, &c, &u));
    uint8_t mask[7];
    float s[7];
    assert_ok(ctx, read_edited(ctx, u, "1", "1", mask, s));
    assert_memory_equal(mask, ((const uint8_t[]){0, 1, 1, 0, 1, 1, 1}), 7);
    assert_memory_equal(s, ((const float[]){0.25f, 1, 0.5f, 0, 1, 1, 0.75f}), sizeof s);
    static const struct {
        const char *from, *to, *message;
        pol_status status;
    } bad[] = {
        {"pollard-mask", "mask", "m.json: format is 'mask'", POL_EFORMAT},
        {"'version':1", "'version':2", "m.json: version is 2", POL_EUNSUPPORTED},
        {"'version':1", "'version':0", "m.json: 'version' is 0", POL_EFORMAT},
        {"'heads','channels'", "'heads','heads'", "m.json: granularity[1] 'heads'", POL_EFORMAT},
        {"'heads','channels'", "'heads',7", "m.json: granularity[1] '(not a string)'", POL_EFORMAT},
        {"'heads','channels','mlp_blocks'", "", "granularity is empty", POL_EFORMAT},
        {"'granularity':['heads','channels'", "'granularity':['channels'",
         "layers[0].heads.probability: heads are not of", POL_EFORMAT},
        {"'layers':[", "'layers':[{},", "m.json: layers has 2 entries, but the model has 1", POL_EFORMAT},
        {"'layers':[{", "'layers':[3],'x':[{", "m.json: layers[0] is not an object", POL_EFORMAT},
        {"'channels':{", "'chanels':{", "m.json: layers[0]: 'channels' is missing", POL_EFORMAT},
        {"'count':3", "'count':4", "m.json: layers[0].channels: 'count' is 4", POL_EFORMAT},
        {"[0,2]", "[2,0]", "m.json: layers[0].channels.kept[1] is 0", POL_EFORMAT},
        {"[0,2]", "[0,0]", "m.json: layers[0].channels.kept[1] is 0", POL_EFORMAT},
        {"[0,2]", "[0,3]", "m.json: layers[0].channels.kept[1] is 3: units rise within 0..2", POL_EFORMAT},
        {"[0,2]", "[-1,2]", "m.json: layers[0].channels.kept[0] is -1", POL_EFORMAT},
        {"[0,2]", "[0,2.5]", "m.json: layers[0].channels.kept[1] is not an integer", POL_EFORMAT},
        {"[0.5,0,1]", "[0.5,0]", "m.json: layers[0].channels.probability is not a list of 3", POL_EFORMAT},
        {"[0.5,0,1]", "[0.5,0,1.001]", "m.json: layers[0].channels.probability[2] is not a number in 0..1",
         POL_EFORMAT},
        {"[0.5,0,1]", "[0.5,'0',1]", "m.json: layers[0].channels.probability[1] is not", POL_EFORMAT},
        {"'attention_block':{'kept':true", "'attention_block':{'kept':1",
         "layers[0].attention_block.kept is not true or false", POL_EFORMAT},
        {",'probability':0.75", "", "m.json: layers[0].mlp_block: 'probability' is missing", POL_EFORMAT},
        {"0.75", "7.5", "m.json: layers[0].mlp_block.probability is not", POL_EFORMAT},
        {"'dense':456", "'dense':455", "m.json: params.dense is 455, but the model has 456", POL_EFORMAT},
        {"'kept':240", "'kept':241", "m.json: params.kept is 241, but the lists keep 240", POL_EFORMAT},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_fails(ctx, read_edited(ctx, u, bad[i].from, bad[i].to, mask, s), bad[i].status, bad[i].message);
    pol_units_free(u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_bad_files)};
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}

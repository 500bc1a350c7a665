/* test_cli_database.c - the repaired levels of a run in its folder: lost, damaged, of others, or too large for the
 * disk.
 */
#include "allocation_run.h"

/* A run that was stopped in its first stage, with its database. */
static void stopped_in_allocation(cli *t, const char *run, const char *options)
{
    char call[512];
    snprintf(call, sizeof call, "prune " SETTINGS "%s --quiet --out @/%s", options, run);
    assert_int_equal(signalled(t, held_after(t, call, run, 3), SIGINT), 130);
}

static void copy_database(const cli *t, const char *from, const char *to)
{
    char source[64], copy[64];
    snprintf(source, sizeof source, "%s/database.bin", from);
    snprintf(copy, sizeof copy, "%s/database.bin", to);
    assert_ok(t->ctx, pol_file_copy(t->ctx, path(t, source), path(t, copy)));
}

/* Missing, damaged, of another run: its blocks are computed again, by the metric that gave the order at first. */
static void a_database_that_is_lost(void **state)
{
    cli *t = *state;
    static const char *const options[] = {"", "--init wanda-sp"};
    for (int i = 0; i < 2; i++) {
        char call[512];
        make_whole(t, options[i]);
        static const char *const others[] = {"other", "another"}, *const differ[] = {"--levels 5", "--init flap"};
        for (int k = 0; k < 2; k++) {
            snprintf(call, sizeof call, "prune " SETTINGS "%s %s --passes 0 --keep-database --quiet --out @/%s",
                     options[i], differ[k], others[k]);
            assert_call(t, 0, call);
        }
        for (int damage = 0; damage < 5; damage++) {
            stopped_in_allocation(t, "run", options[i]);
            size_t n;
            char *good = slurp(path(t, "run/database.bin"), &n);
            good[n / 2] ^= 0x10;
            if (damage == 0)
                unlink(path(t, "run/database.bin"));
            else if (damage >= 3)
                copy_database(t, others[damage - 3], "run");
            else
                spill(t, "run/database.bin", good, damage == 1 ? n : n / 3);
            free(good);
            snprintf(call, sizeof call, "prune " SETTINGS "%s --quiet --out @/run --resume", options[i]);
            assert_call(t, 0, call);
            assert_same_end(t, "run");
            assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "run")));
        }
        assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "whole")));
        for (int k = 0; k < 2; k++)
            assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, others[k])));
    }
}

static void a_file_that_is_no_database(void **state)
{
    cli *t = *state;
    stopped_in_allocation(t, "run", "");
    spill_text(t, "run/database.bin", "what somebody else has written");
    refused(t, 3, "prune " SETTINGS "--quiet --out @/run --resume", "database.bin", "no database");
    char *text = slurp(path(t, "run/database.bin"), NULL);
    assert_string_equal(text, "what somebody else has written");
    free(text);
}

/* ---- a full disk ---- */

static void a_disk_that_is_full(void **state)
{
    cli *t = *state;
    make_whole(t, "");
    /* The database has room for some blocks. */
    t->file_limit = 100000;
    refused(t, 3, "prune " SETTINGS "--quiet --out @/run", "run/database.bin: cannot be written: File too large");
    struct stat st;
    assert_int_equal(stat(path(t, "run/database.bin"), &st), 0);
    assert_in_range(st.st_size, 1000, 99999); /* cut back to a whole block */
    json_t *run = load_json(t, "run/run.json");
    assert_string_equal(text(run, "status"), "failed");
    json_decref(run);
    refused(t, 3, "prune " SETTINGS "--quiet --out @/run --resume", "database.bin: cannot be written: File too large");
    t->file_limit = 0;
    assert_call(t, 0, "prune " SETTINGS "--quiet --out @/run --resume");
    assert_same_end(t, "run");
    /* Not even for one: nothing is left. */
    t->file_limit = 5000;
    refused(t, 3, "prune " SETTINGS "--quiet --out @/none", "database.bin: cannot be written: File too large");
    assert_false(there(t, "none"));
    t->file_limit = 0;
}

/* While the repaired weights are written, after all learning. */
static void a_disk_that_fills_up_at_the_end(void **state)
{
    cli *t = *state;
    make_whole(t, "--repair-sequences 65 --method units");
#define UNITS "prune " SETTINGS "--repair-sequences 65 --method units --quiet --out @/run "
    t->file_limit = 60000;
    refused(t, 3, UNITS, "run/repaired-half.safetensors", "cannot be written: File too large");
    assert_true(there(t, "run/mask.json"));
    assert_false(there(t, "run/repaired.safetensors"));
    t->file_limit = 0;
    assert_call(t, 0, UNITS "--resume");
    assert_same_end(t, "run");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_database_that_is_lost, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_no_database, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_disk_that_is_full, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_disk_that_fills_up_at_the_end, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

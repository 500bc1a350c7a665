/* test_cli_allocation_resume.c - a run of all stages that is stopped, or killed, in any of them ends where it would
 * have ended: masks, weights and record, every bit. */
#include "allocation_run.h"
#include "core/base/endian.h"
#include "core/base/rng.h"
#include "core/learn/checkpoint.h"

static bool said(const cli *t, const char *line)
{
    char *text = slurp(path(t, "stderr"), NULL);
    const bool is_there = strstr(text, line) != NULL;
    free(text);
    return is_there;
}

/* ---- stopped ---- */

/* The run, stopped as soon as it says what it is at; false where it was over before. */
static bool stopped_at(cli *t, const char *call, const char *phase)
{
    const pid_t pid = start(t, call);
    while (!said(t, phase) && !has_ended(pid))
        sleep_us(100);
    if (!hold(pid)) {
        finish(t, pid);
        return false;
    }
    const int code = signalled(t, pid, SIGINT);
    if (code != 0)
        assert_int_equal(code, 130);
    return code == 130;
}

static void a_stop_in_each_phase(void **state)
{
    cli *t = *state;
    static const struct {
        const char *phase, *message;
        bool may_be_new; /* what has nothing to save is removed */
    } phases[] = {
        {"loading weights\n", "before anything could be saved", true},
        {"nested order and repaired levels\n", "", true},
        {"initial mask\n", "--resume goes on", false},
        {"allocation\n", "stopped before step ", false},
        {"blocks\n", "stopped before step ", false},
        {"\nunits\n", "stopped before step ", false},
        {"learnt mask\n", "stopped after all steps; --resume goes on", false},
        {"\nrepair\n", "stopped after all steps; --resume goes on", false},
        {"repaired model\n", "stopped after all steps; --resume goes on", false},
    };
    make_whole(t, "");
    for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++) {
        char call[512], run[32];
        int stopped = 0;
        for (int tries = 0; !stopped && tries < 20; tries++) {
            snprintf(run, sizeof run, "run%zu-%d", i, tries);
            snprintf(call, sizeof call, "prune " SETTINGS "--out @/%s", run);
            stopped = stopped_at(t, call, phases[i].phase);
        }
        if (!stopped)
            fail_msg("the run could not be stopped at '%s'", phases[i].phase);
        assert_says(t->err, phases[i].message);
        assert_true(there(t, run) || phases[i].may_be_new);
        snprintf(call, sizeof call, "prune " SETTINGS "--quiet --out @/%s --resume", run);
        assert_call(t, 0, call);
        assert_same_end(t, run);
    }
}

/* While blocks of the database are there, and others are not. */
static void a_stop_between_blocks(void **state)
{
    cli *t = *state;
    make_whole(t, "");
    int between = 0;
    for (int tries = 0; tries < 40 && between < 2; tries++) {
        char name[32], call[512];
        struct stat st = {0};
        snprintf(call, sizeof call, "prune " SETTINGS "--quiet --out @/run%d", tries);
        snprintf(name, sizeof name, "run%d/database.bin", tries);
        const pid_t pid = start(t, call);
        while ((stat(path(t, name), &st) < 0 || st.st_size < 20000 * (1 + between)) && !has_ended(pid))
            sleep_us(50);
        hold(pid);
        if (signalled(t, pid, SIGINT) == 130 && strstr(t->err, "stopped before learning; --resume goes on")) {
            between++;
            snprintf(name, sizeof name, "run%d/checkpoint.bin", tries);
            assert_false(there(t, name));
            snprintf(name, sizeof name, "run%d/run.json", tries);
            json_t *run = load_json(t, name);
            assert_string_equal(text(run, "status"), "interrupted");
            json_decref(run);
        }
        snprintf(name, sizeof name, "run%d", tries);
        if (!there(t, name))
            continue;
        snprintf(call, sizeof call, "prune " SETTINGS "--quiet --out @/run%d --resume", tries);
        assert_call(t, 0, call);
        assert_same_end(t, name);
    }
    assert_int_equal(between, 2);
}

/* Again and again, at moments that differ, until it is done. `number` as of kill(). */
static void ended_anywhere(cli *t, const char *run, const char *options, int number, uint64_t seed)
{
    char call[512];
    snprintf(call, sizeof call, "prune " SETTINGS "%s --quiet --out @/%s --resume", options, run);
    const int stopped = number == SIGKILL ? 1000 + SIGKILL : 130;
    int code = stopped, stops = 0;
    for (uint32_t i = 0; code && i < 14; i++) {
        float u;
        pol_uniform(seed, POL_STREAM_INIT, i, 0, 1, &u);
        const pid_t pid = start(t, call);
        sleep_us(8000 + (int64_t)(u * 25000 * (float)(i + 1)));
        kill(pid, number);
        code = finish(t, pid);
        assert_true(code == 0 || code == stopped || code == 1000 + number); /* before it could ask for the signal */
        stops += code != 0;
    }
    assert_true(stops > 0);
    assert_call(t, 0, call);
    assert_same_end(t, run);
}

static void stopped_or_killed_anywhere(void **state)
{
    cli *t = *state;
    make_whole(t, "");
    ended_anywhere(t, "stopped", "", SIGINT, 1);
    ended_anywhere(t, "killed", "--checkpoint-every 1", SIGKILL, 2);
    ended_anywhere(t, "killed-later", "--checkpoint-every 7", SIGKILL, 3);
}

/* Without a database the nested order is in the checkpoint: in the last stage the units no longer lie in it. */
static void without_a_database(void **state)
{
    cli *t = *state;
    static const char *const options[] = {"--no-repair", "--repair bias --init wanda-sp --select last"};
    for (int i = 0; i < 2; i++) {
        char call[512], run[16];
        make_whole(t, options[i]);
        snprintf(run, sizeof run, "run%d", i);
        snprintf(call, sizeof call, "prune " SETTINGS "%s --quiet --out @/%s", options[i], run);
        assert_int_equal(signalled(t, held_after(t, call, run, 59 + 16 + 5), SIGINT), 130);
        snprintf(call, sizeof call, "prune " SETTINGS "%s --quiet --out @/%s --resume", options[i], run);
        assert_call(t, 0, call);
        assert_same_run(t, "whole", run);
        assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "whole")));
    }
}

/* ---- what resume takes and refuses ---- */

static void settings_that_differ(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune " SETTINGS "--quiet --out @/run");
    static const struct {
        const char *options, *named, *was, *is;
    } changes[] = {
        {"--candidates 16", "settings.steps.allocation", "59", "118"},
        {"--candidates 16 --sequences-per-candidate 2", "settings.allocation.candidates", "32", "16"},
        {"--advantage normalised", "settings.allocation.advantage", "\"rank\"", "\"normalised\""},
        {"--spread 0.2", "settings.allocation.spread_channels", "0.1", "0.2"},
        {"--fixed-spread", "settings.allocation.adapt_spread", "true", "false"},
        {"--allocation-lr 1", "settings.allocation.learning_rate", "3.0", "1.0"},
        {"--levels 8", "settings.allocation.levels", "16", "8"},
        {"--obs-block 4", "settings.allocation.obs_block", "1", "4"},
        {"--align-channels 8", "settings.allocation.align_channels", "1", "8"},
        {"--min-groups 1", "settings.", "", ""},
        {"--stages allocation", "settings.steps.allocation", "59", "84"},
        {"--damping 0.1", "settings.repair.damping", "0.01", "0.1"},
        {"--refit-inputs 0.5", "settings.repair.refit_inputs", "0.0", "0.5"},
        {"--repair bias", "settings.", "", ""},
        {"--repair-sequences 65", "settings.repair.sequences", "64", "65"},
        {"--init flap", "settings.init.metric", "\"obs\"", "\"flap\""},
        {"--method units", "settings.", "allocation", "units"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char call[512];
        snprintf(call, sizeof call, "prune " SETTINGS "%s --quiet --out @/run --resume", changes[i].options);
        refused(t, 2, call, "run.json", changes[i].named, changes[i].was, changes[i].is);
    }
    assert_call(t, 0, "prune " SETTINGS "--keep-database --quiet --out @/run --resume"); /* decides nothing */
}

/* A checkpoint that is whole, but of counts that the model does not have. */
static void a_checkpoint_that_lies(void **state)
{
    cli *t = *state;
    const char *call = "prune " SETTINGS "--no-repair --quiet --checkpoint-every 1 --out @/run";
    assert_int_equal(signalled(t, held_after(t, call, "run", 3), SIGINT), 130);
    char *file = slurp(path(t, "run/checkpoint.bin"), NULL);
    const uint8_t *header = (const uint8_t *)file + 48;
    const pol_checkpoint_shape shape = {(int64_t)pol_get_u64le(header), (int64_t)pol_get_u64le(header + 8),
                                        (int64_t)pol_get_u64le(header + 16)};
    free(file);
    /* Results of three stages, deviation; then 8 means, spreads, best and accepted counts each, and an order. */
    enum { RESULTS = 9, BEST = RESULTS + 1 + 16, COUNT = BEST + 8, ORDER = COUNT + 8 };
    assert_int_equal(shape.n_state, ORDER + shape.n_order);
    static const struct {
        int64_t at;
        double value;
    } lies[] = {{0, 60},      {1 * 3, -1},     {0, 0.5},    {BEST, 5},        {BEST + 4, -1},
                {COUNT, 1.5}, {COUNT + 7, 97}, {ORDER, -1}, {ORDER + 3, 400}, {ORDER, 1}};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        pol_checkpoint c;
        assert_ok(t->ctx, pol_checkpoint_read(t->ctx, path(t, "run/checkpoint.bin"), &shape, &c));
        const double was = c.state[lies[i].at];
        c.state[lies[i].at] = lies[i].value;
        assert_ok(t->ctx, pol_checkpoint_write(t->ctx, path(t, "run/checkpoint.bin"), &c));
        refused(t, 3, "prune " SETTINGS "--no-repair --quiet --out @/run --resume", "run/checkpoint.bin: ");
        c.state[lies[i].at] = was;
        assert_ok(t->ctx, pol_checkpoint_write(t->ctx, path(t, "run/checkpoint.bin"), &c));
        pol_checkpoint_free(&c);
    }
    assert_call(t, 0, "prune " SETTINGS "--no-repair --quiet --out @/run --resume");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_stop_in_each_phase, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_stop_between_blocks, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(stopped_or_killed_anywhere, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(without_a_database, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(settings_that_differ, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_checkpoint_that_lies, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

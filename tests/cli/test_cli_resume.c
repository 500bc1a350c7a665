/* test_cli_resume.c - a run that is stopped, or killed, at any moment goes on and ends where it would have ended. */
#include <sys/file.h>

#include "core/base/endian.h"
#include "core/base/rng.h"
#include "same_run.h"
#include "stopping.h"

#define SETTINGS                                                                                                \
    "@model --method units --no-repair --data @calibration --keep 0.6 --seq-len 64 --passes 256 --held-out 16 " \
    "--init-sequences 16 --eval-every 2 --eval @held-out --eval-limit 8 --threads 1 --quiet "

/* A run that is held after so many steps, or a few more. */
static pid_t running(cli *t, const char *run, const char *options, int steps)
{
    char call[512];
    snprintf(call, sizeof call, "prune " SETTINGS "%s --out @/%s", options, run);
    return held_after(t, call, run, steps);
}

static void a_signal_saves_and_resume_goes_on(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune " SETTINGS "--out @/whole");
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (int i = 0; i < 3; i++) {
        char call[512], run[16];
        snprintf(run, sizeof run, "run%d", i);
        assert_int_equal(signalled(t, running(t, run, "", 1 + 2 * i), signals[i]), 130);
        assert_string_equal(t->out, "");
        assert_int_equal(lines_of(t->err), 1);
        assert_says(t->err, "stopped before step ");
        assert_says(t->err, " of 16; --resume goes on");
        json_t *record = timeless_record(t, run);
        assert_string_equal(text(record, "status"), "interrupted");
        json_decref(record);
        snprintf(call, sizeof call, "prune " SETTINGS "--out @/%s --resume", run);
        assert_call(t, 0, call);
        assert_same_run(t, "whole", run);
    }
}

/* Stopped before anything is saved, a new run leaves nothing. */
static void an_early_signal_leaves_nothing(void **state)
{
    cli *t = *state;
    int stopped = 0;
    for (int tries = 0; tries < 50 && stopped < 3; tries++) {
        const pid_t pid = start(t, "prune " SETTINGS "--out @/run");
        while (!there(t, "run") && !has_ended(pid))
            sleep_us(50);
        sleep_us(1000 * stopped); /* while it opens, reads text, loads weights */
        const bool early = hold(pid) && !there(t, "run/checkpoint.bin");
        const int code = signalled(t, pid, SIGTERM);
        if (early && !there(t, "run")) {
            assert_int_equal(code, 130);
            assert_int_equal(lines_of(t->err), 1);
            assert_says(t->err, "before anything could be saved");
            stopped++;
        } else { /* too late: the signal found something to save, or the run's end */
            assert_true(there(t, "run/checkpoint.bin"));
            assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "run")));
        }
    }
    assert_int_equal(stopped, 3);
}

/* However early a resumed run is stopped, nothing is lost of what it had. */
static void an_early_signal_loses_nothing(void **state)
{
    cli *t = *state;
    assert_int_equal(signalled(t, running(t, "run", "", 3), SIGINT), 130);
    size_t n;
    char *before = timeless_checkpoint(t, "run", &n);
    for (int us = 0; us < 8000; us += 1000) {
        const pid_t pid = start(t, "prune " SETTINGS "--out @/run --resume");
        sleep_us(us);
        kill(pid, SIGINT);
        const int code = finish(t, pid);
        /* Before the program could ask for the signal it ends the process; and a slow test may come too late. */
        assert_true(code == 130 || code == 1000 + SIGINT || code == 0);
        char *after = timeless_checkpoint(t, "run", &n);
        assert_true(pol_get_u64le((uint8_t *)after + 80) >= pol_get_u64le((uint8_t *)before + 80));
        free(before);
        before = after;
    }
    free(before);
    assert_call(t, 0, "prune " SETTINGS "--out @/run --resume");
    assert_call(t, 0, "prune " SETTINGS "--out @/whole");
    assert_same_run(t, "whole", "run");
}

/* As timeout(1) does it: to the program, and to its group. */
static void two_signals_together_are_one_request(void **state)
{
    cli *t = *state;
    const pid_t pid = running(t, "run", "", 3);
    kill(pid, SIGINT);
    assert_int_equal(signalled(t, pid, SIGTERM), 130);
    assert_says(t->err, " of 16; --resume goes on");
}

static void a_later_second_signal_ends_at_once(void **state)
{
    cli *t = *state;
    /* A single sequence so long that its forward pass, which no signal ends, takes seconds. */
    const pid_t pid = start(
        t,
        "prune @model --method units --no-repair --data @calibration --keep 0.6 --seq-len 16384 --held-out 1 --passes 0 "
        "--init magnitude --threads 1 --out @/run");
    for (bool begun = false; !begun; sleep_us(1000)) {
        char *said = slurp(path(t, "stderr"), NULL);
        begun = strstr(said, "dense model\n") || has_ended(pid);
        free(said);
    }
    kill(pid, SIGINT);
    sleep_us(1100 * 1000);
    assert_false(has_ended(pid));
    kill(pid, SIGTERM);
    assert_int_equal(finish(t, pid), 128 + SIGTERM);
}

/* ---- kill -9 ---- */

/* Killed again and again, a little later each time, at moments that differ; then left alone. */
static void killed_anywhere(cli *t, const char *run, const char *options, uint64_t seed)
{
    char call[512];
    snprintf(call, sizeof call, "prune " SETTINGS "%s --out @/%s --resume", options, run);
    int code = 1000 + SIGKILL, kills = 0;
    for (uint32_t i = 0; code == 1000 + SIGKILL && i < 12; i++) {
        float u;
        pol_uniform(seed, POL_STREAM_INIT, i, 0, 1, &u);
        const pid_t pid = start(t, call);
        sleep_us(2000 + (int64_t)(u * 12000 * (float)(i + 1)));
        kill(pid, SIGKILL);
        code = finish(t, pid);
        kills += code == 1000 + SIGKILL;
    }
    assert_true(kills > 0);
    assert_call(t, 0, call);
    assert_same_run(t, "whole", run);
}

static void a_killed_run_ends_where_it_would_have(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune " SETTINGS "--out @/whole");
    killed_anywhere(t, "every-step", "--checkpoint-every 1", 1);
    killed_anywhere(t, "every-third", "--checkpoint-every 3", 2);
}

/* Killed where a file is being written: the part is there, and goes. */
static void what_a_killed_run_was_writing_goes(void **state)
{
    cli *t = *state;
    assert_int_equal(signalled(t, running(t, "run", "--checkpoint-every 1", 2), SIGKILL), 1000 + SIGKILL);
    spill_text(t, "run/checkpoint.bin.part-123", "half");
    spill_text(t, "run/run.json.part-45", "{");
    /* A line that was cut off, and one of a step that no checkpoint has seen. */
    FILE *log = fopen(path(t, "run/log.jsonl"), "a");
    fputs("{\"step\":15,\"loss\":1}\n{\"step\":16,\"lo", log);
    fclose(log);
    assert_call(t, 0, "prune " SETTINGS "--out @/run --resume");
    assert_false(there(t, "run/checkpoint.bin.part-123"));
    assert_false(there(t, "run/run.json.part-45"));
    assert_call(t, 0, "prune " SETTINGS "--out @/whole");
    assert_same_run(t, "whole", "run");
}

/* ---- what resume takes and refuses ---- */

#define ROUGH \
    "--method units --no-repair --data @calibration --keep 0.7 --passes 48 --init magnitude --threads 1 --quiet "

static void resume_takes_what_is_as_it_was(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune " SETTINGS "--out @/run --resume"); /* nothing to go on with: a new run */
    json_t *first = load_json(t, "run/run.json");
    assert_call(t, 0, "prune " SETTINGS "--out @/run --resume --json");
    json_t *second = load_json(t, "run/run.json");
    assert_true(json_equal(first, second)); /* done is done */
    json_decref(first);
    json_decref(second);
    /* An empty folder is what a run leaves that was killed at once. */
    assert_int_equal(mkdir(path(t, "empty"), 0777), 0);
    assert_call(t, 0, "prune " SETTINGS "--out @/empty --resume");
    assert_same_run(t, "run", "empty");
    /* Text that has moved is the same text; without its end the run is not done. */
    assert_ok(t->ctx, pol_file_copy(t->ctx, test_file("text/calibration.txt"), path(t, "moved.txt")));
    assert_int_equal(unlink(path(t, "run/mask.json")), 0);
    assert_call(
        t, 0,
        "prune @model --method units --no-repair --data @/moved.txt --keep 0.6 --seq-len 64 --passes 256 --held-out 16 "
        "--init-sequences 16 --eval-every 2 --eval @held-out --eval-limit 8 --quiet --out @/run --resume");
    assert_same_file(t, "run/mask.json", "empty/mask.json");
    /* A learning rate, 6 / sqrt(passes), of more digits than the record has is still the same setting. */
    assert_call(t, 0, "prune @model " ROUGH "--out @/rough");
    assert_call(t, 0, "prune @model " ROUGH "--out @/rough --resume");
}

static void resume_refuses_what_differs(void **state)
{
    cli *t = *state;
    assert_call(t, 0, "prune " SETTINGS "--out @/run");
    static const struct {
        const char *options, *named, *was, *is;
    } changes[] = {
        {"--keep 0.7", "settings.keep.heads", "0.6", "0.7"},
        {"--seed 7", "settings.seed", "42", "7"},
        {"--passes 512", "settings.passes", "256", "512"},
        {"--seq-len 32", "settings.text.seq_len", "64", "32"},
        {"--granularity heads", "settings.granularity", "[\"heads\",\"channels\"]", "[\"heads\"]"},
        {"--init random", "settings.init.metric", "\"wanda-sp\"", "\"random\""},
        {"--method reference --init-seq-len 64", "settings.method", "\"units\"", "\"reference\""},
        {"--eval-limit 9", "settings.text.eval_limit", "8", "9"},
        {"--max-sequences 500", "settings.text.max_sequences", "0", "500"},
        {"--batch 4", "settings.batch", "8", "4"},
        {"--smin 0.25", "settings.learn.smin", "0.003", "0.25"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char call[512];
        snprintf(call, sizeof call, "prune " SETTINGS "%s --out @/run --resume", changes[i].options);
        refused(t, 2, call, "run.json", changes[i].named, changes[i].was, changes[i].is);
    }
    refused(
        t, 2,
        "prune @model --method units --no-repair --data @calibration --keep 0.6 --seq-len 64 --passes 256 --held-out 16 --init-sequences 16 "
        "--eval-every 2 --eval-limit 8 --quiet --out @/run --resume",
        "run.json", "with 'eval'");
    refused(
        t, 3,
        "prune @model --method units --no-repair --data @held-out --keep 0.6 --seq-len 64 --passes 256 --held-out 16 --init-sequences 16 "
        "--eval-every 2 --eval @held-out --eval-limit 8 --quiet --out @/run --resume",
        "run.json", "data.");
    copy_model(t, "model");
    char *weights;
    size_t n;
    weights = slurp(path(t, "model/model.safetensors"), &n);
    weights[n - 1] ^= 1;
    spill(t, "model/model.safetensors", weights, n);
    free(weights);
    refused(
        t, 3,
        "prune @/model --method units --no-repair --data @calibration --keep 0.6 --seq-len 64 --passes 256 --held-out 16 --init-sequences 16 "
        "--eval-every 2 --eval @held-out --eval-limit 8 --quiet --out @/run --resume",
        "run.json", "model.hash was ");
    /* Nothing of it has touched the run. */
    assert_call(t, 0, "prune " SETTINGS "--out @/run --resume");
}

static void a_folder_is_taken_only_where_it_is_a_run(void **state)
{
    cli *t = *state;
    spill_text(t, "file", "mine");
    refused(t, 3, "prune " SETTINGS "--out @/file", "file", "exists already");
    refused(t, 3, "prune " SETTINGS "--out @/file --resume", "file", "Not a directory");
    assert_int_equal(mkdir(path(t, "folder"), 0777), 0);
    refused(t, 3, "prune " SETTINGS "--out @/folder", "folder", "exists already");
    spill_text(t, "folder/notes.txt", "mine");
    refused(t, 3, "prune " SETTINGS "--out @/folder --resume", "folder", "no run");
    spill_text(t, "folder/run.json", "{\"format\": \"another\"}");
    refused(t, 3, "prune " SETTINGS "--out @/folder --resume", "run.json", "'another'");
    assert_true(there(t, "folder/notes.txt") && there(t, "folder/run.json"));

    assert_call(t, 0, "prune " SETTINGS "--out @/run");
    refused(t, 3, "prune " SETTINGS "--out @/run", "run", "exists already");
    const int held = open(path(t, "run"), O_RDONLY | O_DIRECTORY); /* as another process does */
    assert_int_equal(flock(held, LOCK_EX | LOCK_NB), 0);
    refused(t, 3, "prune " SETTINGS "--out @/run --resume", "run", "another process");
    close(held);
    assert_call(t, 0, "prune " SETTINGS "--out @/run --resume");
}

static void two_processes_do_not_share_a_run(void **state)
{
    cli *t = *state;
    const pid_t pid = running(t, "run", "", 1);
    refused(t, 3, "prune " SETTINGS "--out @/run --resume", "run", "another process");
    kill(pid, SIGCONT);
    assert_int_equal(finish(t, pid), 0);
    assert_call(t, 0, "prune " SETTINGS "--out @/whole");
    assert_same_run(t, "whole", "run");
}

/* ---- damage ---- */

static void interrupted_run(cli *t) { assert_int_equal(signalled(t, running(t, "run", "", 4), SIGINT), 130); }

static void damaged_state_is_refused_and_kept(void **state)
{
    cli *t = *state;
    const char *resume = "prune " SETTINGS "--out @/run --resume";
    interrupted_run(t);
    static const char *const names[] = {"run/checkpoint.bin", "run/run.json", "run/initial-mask.json"};
    for (int i = 0; i < 3; i++) {
        size_t n;
        char *good = slurp(path(t, names[i]), &n), *bad = malloc(n);
        for (int damage = 0; damage < 3; damage++) {
            memcpy(bad, good, n);
            if (damage == 2)
                bad[n / 2] ^= 0x40;
            spill(t, names[i], bad, damage == 0 ? 0 : damage == 1 ? n / 2 : n);
            const int code = pollard(t, resume);
            /* A changed byte may hit a digit of a number, which is then another number: only a checkpoint has a sum. */
            if (i == 0 || damage < 2) {
                if (code != 3)
                    fail_msg("%s, damage %d: exit code %d: %s", names[i], damage, code, t->err);
                assert_int_equal(lines_of(t->err), 1);
                assert_says(t->err, names[i] + 4);
            }
            if (i == 0)
                assert_false(there(t, "run/mask.json"));
            spill(t, names[i], good, n);
            if (there(t, "run/mask.json")) { /* it went on to the end; begin again */
                assert_ok(t->ctx, pol_remove_tree(t->ctx, path(t, "run")));
                interrupted_run(t);
            }
        }
        free(good);
        free(bad);
    }
    assert_call(t, 0, resume); /* all the while nothing was lost */
    assert_call(t, 0, "prune " SETTINGS "--out @/whole");
    assert_same_run(t, "whole", "run");
}

static void a_record_that_lies_is_refused(void **state)
{
    cli *t = *state;
    interrupted_run(t);
    static const struct {
        const char *part, *key, *value, *said;
    } lies[] = {
        {NULL, "version", "2", "version"},
        {NULL, "status", "7", "status"},
        {NULL, "results", "[]", "results"},
        {"results", "chosen_step", "-1", "chosen_step"},
        {"results", "forward_sequences", "null", "forward_sequences"},
        {"results", "seconds", "\"long\"", "seconds"},
    };
    json_t *good = load_json(t, "run/run.json");
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        json_t *bad = json_deep_copy(good);
        json_object_set_new(lies[i].part ? json_object_get(bad, lies[i].part) : bad, lies[i].key,
                            json_loads(lies[i].value, JSON_DECODE_ANY, NULL));
        assert_int_equal(json_dump_file(bad, path(t, "run/run.json"), 0), 0);
        json_decref(bad);
        refused(t, 3, "prune " SETTINGS "--out @/run --resume", "run.json", lies[i].said);
    }
    assert_int_equal(json_dump_file(good, path(t, "run/run.json"), JSON_REAL_PRECISION(17)), 0);
    json_decref(good);
    assert_call(t, 0, "prune " SETTINGS "--out @/run --resume");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_signal_saves_and_resume_goes_on, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(an_early_signal_leaves_nothing, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(an_early_signal_loses_nothing, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(two_signals_together_are_one_request, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_later_second_signal_ends_at_once, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_killed_run_ends_where_it_would_have, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(what_a_killed_run_was_writing_goes, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(resume_takes_what_is_as_it_was, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(resume_refuses_what_differs, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_folder_is_taken_only_where_it_is_a_run, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(two_processes_do_not_share_a_run, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(damaged_state_is_refused_and_kept, cli_setup, cli_teardown),
        cmocka_unit_test_setup_teardown(a_record_that_lies_is_refused, cli_setup, cli_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

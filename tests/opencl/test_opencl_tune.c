/* test_opencl_tune.c - the search for parameters, with stand-ins for CLBlast's tuners: shell scripts on a PATH that has
 * no other, which say what a tuner might. So no tuner need be installed, and each can misbehave.
 */
#include <signal.h>
#include <sys/stat.h>

#include "backends/opencl/tune.h"
#include "core/run/run.h"
#include "tests/opencl/cache_folder.h"
#include "tests/opencl/profiles.h"

/* A good set for a CPU, one that is right but slow there, and one that compiles but leaves elements out: a work-item's
 * rows are no multiple of the vector that it reads. */
#define GOOD                                                                                                   \
    "GEMMK=0 KREG=1 KWG=32 KWI=2 MDIMA=8 MDIMC=8 MWG=64 NDIMB=8 NDIMC=8 NWG=64 PRECISION=32 SA=0 SB=0 STRM=0 " \
    "STRN=0 VWM=4 VWN=4"
#define WRONG                                                                                                  \
    "GEMMK=0 KREG=1 KWG=32 KWI=2 MDIMA=8 MDIMC=8 MWG=16 NDIMB=8 NDIMC=8 NWG=16 PRECISION=32 SA=0 SB=0 STRM=0 " \
    "STRN=0 VWM=4 VWN=4"
#define SLOW                                                                                                   \
    "GEMMK=0 KREG=1 KWG=32 KWI=2 MDIMA=8 MDIMC=8 MWG=16 NDIMB=8 NDIMC=8 NWG=16 PRECISION=32 SA=0 SB=0 STRM=0 " \
    "STRN=0 VWM=1 VWN=1"
#define RESULT(time, parameters) "{\"best_time\": \"" time "\", \"best_parameters\": \"" parameters "\"}"
#define WRITES(file, time, parameters) "echo '" RESULT(time, parameters) "' > " file "\n"

typedef struct tuners {
    fixture f;
    char bin[80], calls[96];
    char *path_before;
    pol_tune_result result;
} tuners;

/* PoCL links what it compiles: that program alone stays on the PATH. */
static int link_linker(const tuners *t)
{
    char *dirs = strdup(t->path_before), from[512], to[160];
    snprintf(to, sizeof to, "%s/ld", t->bin);
    for (char *d = strtok(dirs, ":"); d && access(to, X_OK); d = strtok(NULL, ":")) {
        snprintf(from, sizeof from, "%s/ld", d);
        if (access(from, X_OK) == 0 && symlink(from, to))
            break;
    }
    free(dirs);
    return 0;
}

static int tune_setup(void **state)
{
    void *plain;
    if (cache_setup(&plain))
        return -1;
    tuners *t = calloc(1, sizeof *t);
    t->f = *(fixture *)plain;
    free(plain);
    pol_context_log(t->f.ctx, keep_line, &t->f, POL_LOG_INFO);
    snprintf(t->bin, sizeof t->bin, "%s/bin", t->f.dir);
    snprintf(t->calls, sizeof t->calls, "%s/calls", t->f.dir);
    t->path_before = strdup(getenv("PATH"));
    *state = t;
    return mkdir(t->bin, 0777) || link_linker(t) || setenv("PATH", t->bin, 1) ||
           setenv("POLLARD_CACHE_DIR", t->f.dir, 1);
}

static int tune_teardown(void **state)
{
    tuners *t = *state;
    setenv("PATH", t->path_before, 1);
    unsetenv("POLLARD_CACHE_DIR");
    const pol_status s = pol_remove_tree(t->f.ctx, t->f.dir);
    pol_context_free(t->f.ctx);
    free(t->path_before);
    free(t);
    return s;
}

/* Its words go to a file, then it does as `script` says. */
static void stand_in(tuners *t, const char *program, const char *script)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", t->bin, program);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\necho \"%s $*\" >> %s\nPATH=/usr/bin:/bin\n%s", program, t->calls, script);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0755), 0);
}

static const char *const others[] = {"clblast_tuner_xgemm_direct", "clblast_tuner_transpose_pad",
                                     "clblast_tuner_copy_pad", "clblast_tuner_transpose_fast",
                                     "clblast_tuner_copy_fast"};

/* All but Xgemm's find nothing. */
static void stand_ins(tuners *t, const char *xgemm)
{
    stand_in(t, "clblast_tuner_xgemm", xgemm);
    for (size_t i = 0; i < POL_COUNT(others); i++)
        stand_in(t, others[i], "");
}

/* Wide enough that CLBlast's own parameters are slow on a CPU: all its products are direct ones. */
static pol_status tune(tuners *t, double seconds)
{
    pol_config c = {
        .n_layers = 1, .hidden = 256, .heads_per_group = 1, .head_dim = 64, .n_groups = 4, .ffn = 512, .vocab = 512};
    c.layers[0] = (pol_layer_shape){4, 512};
    pol_backend *be = open_profile(t->f.ctx, &test_profiles[0]);
    if (!be)
        skip();
    pol_backend_close(be);
    const pol_tune_job job = {.dense = &c, .masked = &c, .batch = 4, .seq_len = 64, .seconds = seconds};
    return pol_backend_tune(t->f.ctx, &(pol_backend_options){.name = "opencl", .device = "0"}, &job, &t->result);
}

static void assert_log(const tuners *t, const char *part)
{
    if (!strstr(t->f.log, part))
        fail_msg("'%s' is not in the log: %s", part, t->f.log);
}

static ocl_tuning kept(tuners *t)
{
    char key[33], *path;
    ocl_tuning set;
    bool there;
    ocl_profile use;
    pol_backend *be = open_profile(t->f.ctx, &test_profiles[0]);
    use = ocl_of(be)->profile;
    pol_backend_close(be);
    use.cache_dir = t->f.cache;
    assert_ok(t->f.ctx, pol_opencl_open(t->f.ctx, 0, &use, POL_F32, &be));
    assert_ok(t->f.ctx, ocl_kept_path(ocl_of(be), key, &path));
    assert_string_equal(t->result.file, path);
    assert_ok(t->f.ctx, ocl_tuning_read(t->f.ctx, path, key, &set, &there));
    assert_true(there);
    pol_free(t->f.ctx, path);
    pol_backend_close(be);
    return set;
}

/* GOOD is that on a CPU alone. */
static void need_a_cpu(tuners *t)
{
    pol_backend *be = open_profile(t->f.ctx, &test_profiles[0]);
    const bool cpu = be && be->info.type == POL_DEVICE_CPU;
    pol_backend_close(be);
    if (!cpu)
        skip();
}

static void a_faster_set_is_kept(void **state)
{
    tuners *t = *state;
    need_a_cpu(t);
    stand_ins(t, WRITES("clblast_xgemm_1_32.json", "3.5", GOOD) WRITES("clblast_xgemm_2_32.json", "2.5", WRONG)
                     WRITES("clblast_xgemm_11_32.json", "0.1", SLOW));
    stand_in(t, "clblast_tuner_copy_pad",
             WRITES("clblast_pad_32.json", "0.1", "PAD_DIMX=8 PAD_DIMY=8 PAD_WPTX=2 PAD_WPTY=1 PRECISION=32"));
    assert_ok(t->f.ctx, tune(t, 60));
    assert_log(t, "is wrong"); /* whatever their tuner says of them */
    assert_true(t->result.kept);
    assert_true(t->result.flops_after > 1.03 * t->result.flops_before && t->result.flops_before > 0);
    const ocl_tuning set = kept(t);
    assert_int_equal(set.kernels[OCL_XGEMM].n, 16);
    assert_string_equal(set.kernels[OCL_XGEMM].parameters[6].name, "MWG");
    assert_int_equal(set.kernels[OCL_XGEMM].parameters[6].value, 64);
    assert_int_equal(set.kernels[OCL_PAD].n, 4);
    assert_int_equal(set.kernels[OCL_COPY].n, 0);
    assert_string_equal(set.kernels[OCL_GEMM_ROUTINE].parameters[0].name, OCL_MIN_INDIRECT);
    /* The largest product, 256 x 1024 x 256, is much faster by the kernel that was tuned. */
    assert_true(set.kernels[OCL_GEMM_ROUTINE].parameters[0].value < 406);
}

/* The device and a product of the job: 256 tokens, widths of 128, 512, 1024, depths of 256 and 512. */
static void tuners_are_called_for_the_device_and_a_product(void **state)
{
    tuners *t = *state;
    pol_bytes calls;
    stand_ins(t, WRITES("clblast_xgemm_1_32.json", "3.5", GOOD));
    assert_ok(t->f.ctx, tune(t, 60));
    assert_ok(t->f.ctx, pol_file_read(t->f.ctx, t->calls, MOST_FILE, &calls));
    int platform, device, precision, m, n, k, fraction, at = 0;
    assert_int_equal(
        sscanf(calls.data, "clblast_tuner_xgemm -platform %d -device %d -precision %d -m %d -n %d -k %d -fraction %d%n",
               &platform, &device, &precision, &m, &n, &k, &fraction, &at),
        7);
    assert_int_equal(calls.data[at], '\n');
    assert_true(platform == 0 && device == 0 && precision == 32 && fraction == 1024);
    assert_true(m % 128 == 0 && n % 128 == 0 && k % 128 == 0 && m > 0 && n > 0 && k > 0);
    for (size_t i = 0; i < POL_COUNT(others); i++)
        if (!strstr(calls.data, others[i]))
            fail_msg("%s was not called: %s", others[i], calls.data);
    assert_null(strstr(strstr(calls.data, "clblast_tuner_copy_fast"), "-k "));
    pol_bytes_free(&calls);
}

static void assert_nothing_kept(tuners *t)
{
    char path[512];
    assert_false(t->result.kept);
    assert_string_equal(t->result.file, "");
    assert_int_equal(only_file(&t->f, path), 0); /* no set, no temporary folder */
}

static void a_wrong_set_is_not_kept(void **state)
{
    tuners *t = *state;
    stand_ins(t, WRITES("clblast_xgemm_1_32.json", "0.1", WRONG));
    assert_ok(t->f.ctx, tune(t, 60));
    assert_log(t, "is wrong");
    assert_nothing_kept(t);
}

static void parameters_of_another_clblast_are_not_kept(void **state)
{
    tuners *t = *state;
    stand_ins(t, WRITES("clblast_xgemm_1_32.json", "0.1", "SPEED=11"));
    assert_ok(t->f.ctx, tune(t, 60));
    assert_log(t, "CLBlastMissingOverrideParameter");
    assert_nothing_kept(t);
}

/* Each in its own way; the search goes on to its end. */
static void tuners_may_fail(void **state)
{
    tuners *t = *state;
    stand_ins(t, "kill -SEGV $$\n");
    stand_in(t, others[0], "exit 3\n");
    stand_in(t, others[1], "echo '{\"best_time' > clblast_padtranspose_32.json\n");
    stand_in(t, others[2], "mkdir clblast_pad_32.json\n");
    stand_in(t, others[3], "mkfifo clblast_transpose_32.json\n");
    stand_in(t, others[4], WRITES("clblast_copy_32.json", "1", "COPY_DIMX=many"));
    assert_ok(t->f.ctx, tune(t, 60));
    assert_log(t, "clblast_tuner_xgemm ended by signal 11");
    assert_log(t, "clblast_tuner_xgemm_direct ended with code 3");
    static const char *const passed_over[] = {"transpose_pad", "copy_pad", "transpose_fast", "copy_fast"};
    for (size_t i = 0; i < POL_COUNT(passed_over); i++) {
        char line[96];
        snprintf(line, sizeof line, "clblast_tuner_%s: its result is passed over", passed_over[i]);
        assert_log(t, line);
    }
    assert_nothing_kept(t);
}

/* What it has written by then is used. */
static void a_tuner_that_takes_too_long_is_ended(void **state)
{
    tuners *t = *state;
    stand_ins(t, WRITES("clblast_xgemm_1_32.json", "0.1", WRONG) "exec sleep 100\n");
    const double start = pol_seconds();
    assert_ok(t->f.ctx, tune(t, 1));
    assert_true(pol_seconds() - start < 60);
    assert_log(t, "took too long");
    assert_log(t, "is wrong");
    assert_log(t, "no time is left");
    assert_nothing_kept(t);
}

static pol_context *to_stop;
static void stop(int number)
{
    (void)number;
    pol_context_stop(to_stop);
}

static void a_stop_ends_the_tuner(void **state)
{
    tuners *t = *state;
    char script[64];
    to_stop = t->f.ctx;
    signal(SIGUSR1, stop);
    snprintf(script, sizeof script, "kill -USR1 %ld\nexec sleep 100\n", (long)getpid());
    stand_ins(t, script);
    const double start = pol_seconds();
    assert_int_equal(tune(t, 200), POL_EINTERRUPTED);
    assert_true(pol_seconds() - start < 60);
    assert_nothing_kept(t);
    pol_context_resume(t->f.ctx);
}

static void without_tuners_the_package_is_named(void **state)
{
    tuners *t = *state;
    assert_fails(t->f.ctx, tune(t, 60), POL_EUNSUPPORTED, "clblast-utils");
    assert_nothing_kept(t);
}

static void without_a_folder_nothing_is_searched(void **state)
{
    tuners *t = *state;
    setenv("POLLARD_CACHE_DIR", "", 1);
    assert_fails(t->f.ctx, tune(t, 60), POL_EIO, "POLLARD_CACHE_DIR");
}

/* An earlier set stays where the new one is not faster, and says what the new search has no result for. */
static void an_earlier_set_has_to_be_beaten(void **state)
{
    tuners *t = *state;
    char path[512];
    need_a_cpu(t);
    stand_ins(t, WRITES("clblast_xgemm_1_32.json", "3.5", GOOD));
    assert_ok(t->f.ctx, tune(t, 60));
    assert_true(t->result.kept);
    const ocl_tuning first = kept(t);
    stand_ins(t, "");
    t->f.log[0] = 0;
    assert_ok(t->f.ctx, tune(t, 60));
    assert_true(t->result.kept);
    const ocl_tuning second = kept(t);
    assert_memory_equal(&second, &first, sizeof first);
    stand_ins(t, WRITES("clblast_xgemm_1_32.json", "0.1", SLOW));
    assert_ok(t->f.ctx, tune(t, 60));
    const ocl_tuning third = kept(t);
    assert_memory_equal(&third, &first, sizeof first);
    assert_int_equal(only_file(&t->f, path), 1);
    /* Damaged, it is made again. */
    assert_ok(t->f.ctx, pol_file_write(t->f.ctx, path, "{}", 2));
    stand_ins(t, WRITES("clblast_xgemm_1_32.json", "3.5", GOOD));
    assert_ok(t->f.ctx, tune(t, 60));
    assert_log(t, "found earlier are passed over");
}

static void cpu_has_nothing_to_tune(void **state)
{
    tuners *t = *state;
    pol_config c = {0};
    const pol_tune_job job = {.dense = &c, .masked = &c, .batch = 1, .seq_len = 2, .seconds = 1};
    assert_fails(t->f.ctx, pol_backend_tune(t->f.ctx, &(pol_backend_options){.name = "cpu"}, &job, &t->result),
                 POL_EUNSUPPORTED, "cpu");
}

#define TUNE_TEST(name) cmocka_unit_test_setup_teardown(name, tune_setup, tune_teardown)

/* The first alone is sure to begin with CLBlast's own parameters: a process does not get them back. */
int main(void)
{
    const struct CMUnitTest tests[] = {
        TUNE_TEST(a_faster_set_is_kept),
        TUNE_TEST(tuners_are_called_for_the_device_and_a_product),
        TUNE_TEST(a_wrong_set_is_not_kept),
        TUNE_TEST(parameters_of_another_clblast_are_not_kept),
        TUNE_TEST(tuners_may_fail),
        TUNE_TEST(a_tuner_that_takes_too_long_is_ended),
        TUNE_TEST(a_stop_ends_the_tuner),
        TUNE_TEST(without_tuners_the_package_is_named),
        TUNE_TEST(without_a_folder_nothing_is_searched),
        TUNE_TEST(an_earlier_set_has_to_be_beaten),
        TUNE_TEST(cpu_has_nothing_to_tune),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

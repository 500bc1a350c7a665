/* The simulator itself: kernels with a mistake are stopped and told so, right ones give one result in whatever order.
 */
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/model/half.h"
#include "tests/cuda/sim/sim_control.h"
#include "tests/cuda/sim/sim_fault.h"
#include "tests/cuda/sim_kernels.h"
#include "tests/test.h"

enum { SEEDS = 12 };

static char last_fault[512];
static int n_faults;

static void note_fault(const char *line)
{
    snprintf(last_fault, sizeof last_fault, "%s", line);
    n_faults++;
}

static int listen(void **state)
{
    (void)state;
    sim_on_fault(note_fault);
    n_faults = 0;
    last_fault[0] = 0;
    return 0;
}

/* One of the alternatives a|b|c is in the text. */
static bool says(const char *text, const char *alternatives)
{
    char copy[512], *rest = copy;
    snprintf(copy, sizeof copy, "%s", alternatives);
    for (char *one; (one = strsep(&rest, "|"));)
        if (strstr(text, one))
            return true;
    return false;
}

static void right_kernels_pass_in_any_order(void **state)
{
    (void)state;
    float first[TRIAL_RESULTS], out[TRIAL_RESULTS];
    for (int i = 0; i < n_sim_trials; i++)
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            for (int j = 0; j < TRIAL_RESULTS; j++)
                out[j] = NAN;
            sim_seed(seed);
            sim_trials[i].run(out, false);
            if (n_faults)
                fail_msg("seed %d: %s", (int)seed, last_fault);
            for (int j = 0; j < TRIAL_RESULTS; j++)
                if (isnan(out[j]))
                    fail_msg("%s: thread %d did not come by", sim_trials[i].name, j);
            if (seed == 0)
                memcpy(first, out, sizeof first);
            assert_memory_equal(first, out, sizeof first);
        }
}

static void mistakes_are_told(void **state)
{
    (void)state;
    float out[TRIAL_RESULTS];
    for (int i = 0; i < n_sim_trials; i++)
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            const trial *t = &sim_trials[i];
            n_faults = 0;
            sim_seed(seed);
            t->run(out, true);
            if (n_faults != 1)
                fail_msg("%s, seed %d: %d faults", t->name, (int)seed, n_faults);
            char begins[128];
            snprintf(begins, sizeof begins, "kernel %s, block (", t->name);
            if (strncmp(last_fault, begins, strlen(begins)) || !strstr(last_fault, ",0), thread (") ||
                !says(last_fault, t->fault) || strchr(last_fault, '\n'))
                fail_msg("%s, seed %d: '%s' is not '%s'", t->name, (int)seed, last_fault, t->fault);
            t->run(out, false); /* the engine is none the worse for it */
            assert_int_equal(n_faults, 1);
        }
}

/* A mistake ends the program where nobody listens, with its one line. */
static void the_default_aborts(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        float out[TRIAL_RESULTS];
        dup2(ends[1], STDERR_FILENO);
        sim_on_fault(NULL);
        signal(SIGABRT, SIG_DFL);
        sim_trials[0].run(out, true);
        _exit(0);
    }
    close(ends[1]);
    char text[1024];
    size_t n = 0;
    for (ssize_t got; (got = read(ends[0], text + n, sizeof text - 1 - n)) > 0;)
        n += (size_t)got;
    text[n] = 0;
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_true(says(text, sim_trials[0].fault));
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
}

enum { COMERS = 512, OF_A_BLOCK = 64 };

static void the_seed_decides_the_order(void **state)
{
    (void)state;
    int order[3][COMERS];
    const uint64_t seeds[3] = {1, 2, 1};
    for (int i = 0; i < 3; i++) {
        sim_seed(seeds[i]);
        sim_try_order(order[i]);
        bool came[COMERS] = {false};
        for (int j = 0; j < COMERS; j++) {
            assert_in_range(order[i][j], 0, COMERS - 1);
            assert_false(came[order[i][j]]);
            came[order[i][j]] = true;
            assert_int_equal(order[i][j] / OF_A_BLOCK, order[i][j - j % OF_A_BLOCK] / OF_A_BLOCK); /* block by block */
        }
    }
    assert_memory_equal(order[0], order[2], sizeof order[0]);
    int same_block = 0, same_thread = 0, again[COMERS];
    sim_try_order(again); /* and the next grid has another */
    for (int j = 0; j < COMERS; j++) {
        same_block +=
            order[0][j] / OF_A_BLOCK == order[1][j] / OF_A_BLOCK && order[0][j] / OF_A_BLOCK == again[j] / OF_A_BLOCK;
        same_thread +=
            order[0][j] % OF_A_BLOCK == order[1][j] % OF_A_BLOCK || order[0][j] % OF_A_BLOCK == again[j] % OF_A_BLOCK;
    }
    assert_true(same_block < COMERS / 2);
    assert_true(same_thread < COMERS / 8);
}

static void threads_meet(void **state)
{
    (void)state;
    int out[64][TRIAL_MEETINGS];
    sim_try_warp(out[0]);
    for (int i = 0; i < 64; i++) {
        const int lane = i % 32, warp = i - lane;
        const int expected[TRIAL_MEETINGS] = {10 * (warp + 5),
                                              10 * (warp + (lane + 1) % 32),
                                              10 * (i ^ 3),
                                              10 * (i ^ 16),
                                              10 * (lane + 7 < 32 ? i + 7 : i),
                                              10 * (lane >= 2 ? i - 2 : i),
                                              0x49249249,
                                              1,
                                              0,
                                              1,
                                              0,
                                              10 * (i ^ 1),
                                              2,
                                              4,
                                              1,
                                              0,
                                              1,
                                              0};
        assert_memory_equal(out[i], expected, sizeof expected);
    }
}

static void shared_elements_calculate(void **state)
{
    (void)state;
    assert_near(sim_try_arithmetic(), 329, 0);
}

static size_t element(bool by_rows, int row, int column, unsigned ld)
{
    return by_rows ? (size_t)row * ld + (size_t)column : (size_t)column * ld + (size_t)row;
}

/* Small integers: sums are exact in any order. */
static void check_tiles(const tile_trial *form)
{
    enum { MOST = 16 * 24 };
    _Alignas(32) uint16_t a[MOST], b[MOST];
    _Alignas(32) float c[MOST], d[MOST];
    for (int i = 0; i < MOST; i++) {
        a[i] = pol_f32_to_bf16((float)(i * 7 % 61 - 30));
        b[i] = pol_f32_to_bf16((float)(i * 11 % 53 - 26));
        c[i] = (float)(i * 5 % 97);
        d[i] = NAN;
    }
    tile_trial t = *form;
    t.a = a;
    t.b = b;
    t.c = c;
    t.d = d;
    sim_try_tiles(&t);
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++) {
            const size_t at = element(t.sums_by_rows, m, n, t.ld);
            float sum = c[at];
            for (int k = 0; k < 16; k++)
                sum += pol_bf16_to_f32(a[element(t.a_by_rows, m, k, t.ld)]) *
                       pol_bf16_to_f32(b[element(t.b_by_rows, k, n, t.ld)]);
            if (d[at] != sum)
                fail_msg("a %d b %d sums %d shared %d ld %u: [%d][%d] is %g, not %g", t.a_by_rows, t.b_by_rows,
                         t.sums_by_rows, t.shared, t.ld, m, n, d[at], sum);
        }
}

static void tiles_are_multiplied(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++)
        for (int form = 0; form < 16; form++)
            for (unsigned ld = 16; ld <= 24; ld += 8) {
                const tile_trial t = {.ld = ld,
                                      .a_by_rows = form & 1,
                                      .b_by_rows = form & 2,
                                      .shared = form & 4,
                                      .sums_by_rows = form & 4 || form & 8};
                sim_seed(seed);
                check_tiles(&t);
            }
    assert_int_equal(n_faults, 0);
}

static void launches_are_queued_and_named(void **state)
{
    (void)state;
    enum { N = 100 };
    float *x, host[N];
    cudaStream_t stream;
    sim_restart();
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&x, sizeof host), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(x, 0, sizeof host, stream), cudaSuccess);
    assert_int_equal(sim_try_launch(stream, x, N, false), cudaSuccess);
    assert_int_equal(sim_try_launch(stream, x, N, true), cudaSuccess);
    assert_int_equal(n_faults, 0);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    assert_int_equal(n_faults, 1);
    assert_non_null(strstr(last_fault, "kernel adds<1, 1> (sim_kernels.cu:"));
    assert_int_equal(cudaMemcpy(host, x, sizeof host, cudaMemcpyDeviceToHost), cudaSuccess);
    for (int i = 0; i < N; i++)
        assert_near(host[i], 1, 0);
    assert_int_equal(cudaFree(x), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
}

static void impossible_launches_are_refused(void **state)
{
    (void)state;
    const dim3 one = {1, 1, 1};
    assert_int_equal(sim_try_form((dim3){0x7fffffff, 65535, 65535}, (dim3){1024, 1, 1}, 227 << 10), cudaSuccess);
    assert_int_equal(sim_try_form(one, (dim3){4, 4, 64}, 0), cudaSuccess);
    const struct {
        dim3 grid, block;
    } wrong[] = {{{0, 1, 1}, {1, 1, 1}},          {{1, 0, 1}, {1, 1, 1}},        {{1, 1, 0}, {1, 1, 1}},
                 {{0x80000000, 1, 1}, {1, 1, 1}}, {{1, 65536, 1}, {1, 1, 1}},    {{1, 1, 65536}, {1, 1, 1}},
                 {{1, 1, 1}, {0, 1, 1}},          {{1, 1, 1}, {1, 0, 1}},        {{1, 1, 1}, {1, 1, 0}},
                 {{1, 1, 1}, {1025, 1, 1}},       {{1, 1, 1}, {32, 32, 2}},      {{1, 1, 1}, {32, 33, 1}},
                 {{1, 1, 1}, {1, 1, 65}},         {{1, 1, 1}, {65536, 65536, 1}}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(sim_try_form(wrong[i].grid, wrong[i].block, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(sim_try_form(one, one, (227 << 10) + 1), cudaErrorInvalidValue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(right_kernels_pass_in_any_order, listen),
        cmocka_unit_test_setup(mistakes_are_told, listen),
        cmocka_unit_test_setup(the_default_aborts, listen),
        cmocka_unit_test_setup(the_seed_decides_the_order, listen),
        cmocka_unit_test_setup(threads_meet, listen),
        cmocka_unit_test_setup(shared_elements_calculate, listen),
        cmocka_unit_test_setup(tiles_are_multiplied, listen),
        cmocka_unit_test_setup(launches_are_queued_and_named, listen),
        cmocka_unit_test_setup(impossible_launches_are_refused, listen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

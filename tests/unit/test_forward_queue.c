/* test_forward_queue.c - passes that nobody waits for: whose results come when, what a failure leaves, and that a key
 * says all about a pass. */
#include <math.h>

#include "backends/drivers.h"
#include "core/base/rng.h"
#include "core/forward.h"
#include "pollard/eval.h"
#include "tests/unit/late_backend.h"

enum { B = 3, S = 12, V = 96, MANY = 200 };

/* A model on a backend that serves late, and its twin on one that serves at once. */
typedef struct fixture {
    pol_context *ctx;
    pol_source *src;
    pol_backend *be[2];
    pol_model *model[2];
    pol_forward *forward[2];
    const pol_units *units;
    int32_t ids[MANY * S];
    uint8_t *mask;
} fixture;

enum { LATE, TWIN };

static void open_fixture(fixture *f, const char *model)
{
    memset(f, 0, sizeof *f);
    assert_int_equal(pol_context_new(NULL, &f->ctx), POL_OK);
    assert_ok(f->ctx, pol_source_open(f->ctx, test_file(model), &f->src));
    for (int i = 0; i < 2; i++) {
        assert_ok(f->ctx, pol_reference_open(f->ctx, &f->be[i]));
        f->be[i]->width_tile = 4;
        if (i == LATE)
            late_start(f->be[i]);
        assert_ok(f->ctx, pol_model_load(f->src, f->be[i], NULL, &f->model[i]));
        assert_ok(f->ctx, pol_forward_new(f->model[i], B * S, S, &f->forward[i]));
    }
    f->units = pol_model_units(f->model[LATE]);
    f->mask = malloc((size_t)f->units->n);
    for (int i = 0; i < MANY * S; i++)
        f->ids[i] = (i * 37 + i / 11) % V;
}

static void close_fixture(fixture *f)
{
    free(f->mask);
    for (int i = 0; i < 2; i++) {
        pol_forward_free(f->forward[i]);
        pol_model_free(f->model[i]);
        pol_backend_close(f->be[i]);
    }
    late_end();
    pol_source_close(f->src);
    pol_context_free(f->ctx);
}

/* Mask i, of few kinds as to how much is kept, of many as to what. */
static void draw_mask(const fixture *f, uint64_t i, uint8_t *mask)
{
    float *draw = malloc((size_t)f->units->n * sizeof *draw);
    pol_uniform(5, POL_STREAM_TEST, i, 0, f->units->n, draw);
    memset(mask, 0, (size_t)f->units->n);
    for (int64_t s = 0; s < f->units->n_sections; s++) {
        const pol_section *sec = &f->units->sections[s];
        const bool block = sec->kind >= POL_UNIT_ATTENTION;
        const int64_t half = sec->count / 2, more = sec->kind == POL_UNIT_CHANNEL ? 1 + (draw[sec->first] < 0.5f) : 0;
        const int64_t keep = block ? sec->count && draw[sec->first] < 0.9f : half + more; /* 21 and 22: padded alike */
        for (int64_t kept = 0; kept < keep; kept++) { /* the largest not taken yet */
            int64_t best = -1;
            for (int64_t u = sec->first; u < sec->first + sec->count; u++)
                if (!mask[u] && (best < 0 || draw[u] > draw[best]))
                    best = u;
            mask[best] = 1;
        }
    }
    free(draw);
}

static void set_mask(fixture *f, int which, uint64_t i)
{
    draw_mask(f, i, f->mask);
    assert_ok(f->ctx, pol_model_set_mask(f->model[which], f->mask));
}

/* Shape of pass i. */
static int64_t sequences_of(int64_t i) { return 1 + i % B; }
static int64_t length_of(int64_t i) { return S - i % 4; }

static bool untouched(const double *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(v[i] == -1.0))
            return false;
    return true;
}

typedef struct results {
    double loss[MANY][B];
    float nll[MANY][B * S];
} results;

static results *new_results(void)
{
    results *r = malloc(sizeof *r);
    for (int64_t i = 0; i < MANY; i++)
        for (int b = 0; b < B; b++)
            r->loss[i][b] = -1.0;
    memset(r->nll, 0, sizeof r->nll);
    return r;
}

static pol_status queue_pass(fixture *f, int64_t i, results *r)
{
    return pol_forward_queue(f->forward[LATE], f->ids + i, sequences_of(i), length_of(i), i % 3 ? r->nll[i] : NULL,
                             i % 5 ? r->loss[i] : NULL);
}

/* What pass i must have given, by the twin, which serves at once; masks must have come in the same order. */
static void check_pass(fixture *f, int64_t i, const results *got)
{
    double loss[B];
    float nll[B * S];
    const int64_t n = sequences_of(i), length = length_of(i);
    assert_ok(f->ctx, pol_forward_nll(f->forward[TWIN], f->ids + i, n, length, nll, loss));
    if (i % 3)
        assert_memory_equal(got->nll[i], nll, (size_t)(n * (length - 1)) * sizeof *nll);
    if (i % 5)
        assert_memory_equal(got->loss[i], loss, (size_t)n * sizeof *loss);
    assert_true(untouched(got->loss[i] + (i % 5 ? n : 0), i % 5 ? B - n : B));
}

/* Passes of all shapes under many masks, some waited for only because there are too many. */
static void test_every_pass_gets_its_own_results(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, "models/llama-linear-bias");
    results *r = new_results();
    const int64_t room = pol_forward_max_pending(f.forward[LATE]);
    assert_true(room > 0 && MANY > 2 * room + 2);
    late.syncs = 0;
    for (int64_t i = 0; i < MANY; i++) {
        set_mask(&f, LATE, (uint64_t)(i / 3));
        assert_ok(f.ctx, queue_pass(&f, i, r));
        assert_int_equal(late.syncs, i / room); /* nobody waits before there is no more room */
        if (i % 5)
            assert_true(untouched(r->loss[i], B));
    }
    assert_ok(f.ctx, pol_forward_settle(f.forward[LATE]));
    assert_int_equal(late.syncs, (MANY + room - 1) / room);
    assert_ok(f.ctx, pol_forward_settle(f.forward[LATE])); /* nothing to wait for */
    assert_int_equal(late.syncs, (MANY + room - 1) / room);
    for (int64_t i = 0; i < MANY; i++) {
        set_mask(&f, TWIN, (uint64_t)(i / 3));
        check_pass(&f, i, r);
    }
    free(r);
    close_fixture(&f);
}

/* Freeing waits for what is under way, and writes to nobody. */
static void test_free_with_passes_under_way(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, "models/llama-gqa-tied");
    results *r = new_results();
    for (int64_t i = 1; i < 4; i++)
        assert_ok(f.ctx, queue_pass(&f, i, r));
    late.fail_in = 0; /* not even a fault takes the sentence of an earlier one away */
    pol_fail(f.ctx, POL_EIO, "the reason");
    pol_forward_free(f.forward[LATE]);
    assert_string_equal(pol_error_text(f.ctx), "the reason");
    assert_int_equal(pol_error_code(f.ctx), POL_EIO);
    f.forward[LATE] = NULL;
    for (int64_t i = 0; i < 4; i++)
        assert_true(untouched(r->loss[i], B));
    free(r);
    close_fixture(&f);
}

/* Whatever call fails: nothing is pending, nothing arrives later, and the next passes are right. */
static void test_a_failure_drops_all(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, "models/llama-gqa-tied");
    int64_t failed = 0;
    for (int64_t n = 0;; n++, failed++) {
        results *r = new_results();
        pol_status s = POL_OK;
        late.fail_in = n;
        for (int64_t i = 1; i < 4 && s == POL_OK; i++)
            s = queue_pass(&f, i, r);
        if (s == POL_OK)
            s = pol_forward_settle(f.forward[LATE]);
        const bool all = late.fail_in >= 0;
        late.fail_in = -1;
        if (all) {
            assert_ok(f.ctx, s);
            free(r);
            break;
        }
        assert_int_equal(s, POL_EDEVICE);
        assert_non_null(strstr(pol_error_text(f.ctx), "planted: "));
        results *next = new_results();
        assert_ok(f.ctx, queue_pass(&f, 4, next));
        assert_ok(f.ctx, pol_forward_settle(f.forward[LATE]));
        for (int64_t i = 0; i < MANY; i++)
            assert_true(untouched(r->loss[i], B));
        check_pass(&f, 4, next);
        free(next);
        free(r);
    }
    assert_true(failed > 50);
    /* So does a pass that cannot be made, and dropping by hand. */
    for (int way = 0; way < 3; way++) {
        results *r = new_results();
        assert_ok(f.ctx, queue_pass(&f, 1, r));
        if (way == 0)
            assert_fails(f.ctx, pol_forward_queue(f.forward[LATE], f.ids, B + 1, S, NULL, NULL), POL_EARG,
                         "do not fit");
        if (way == 1)
            assert_fails(f.ctx, pol_forward_queue(f.forward[LATE], (int32_t[2]){0, V}, 1, 2, NULL, NULL), POL_EARG,
                         "token id 96 is outside");
        if (way == 2)
            pol_forward_drop(f.forward[LATE]);
        assert_ok(f.ctx, pol_forward_settle(f.forward[LATE]));
        assert_ok(f.ctx, queue_pass(&f, 2, r));
        assert_ok(f.ctx, pol_forward_settle(f.forward[LATE]));
        assert_true(untouched(r->loss[1], B));
        check_pass(&f, 2, r);
        free(r);
    }
    close_fixture(&f);
}

/* ---- keys ---- */

static bool same_calls(const late_pass *p, const late_pass *q)
{
    bool same = p->n == q->n;
    for (int64_t i = 0; same && i < p->n; i++)
        same = p->calls[i].again == q->calls[i].again && !memcmp(p->calls[i].args, q->calls[i].args, LATE_ARGS_BYTES);
    return same;
}

/* Passes with equal keys call the same ops with the same arguments; passes with different keys differ in them. */
static void test_a_key_says_all(void **state)
{
    (void)state;
    fixture f;
    pol_forward *other;
    int64_t equal = 0, different = 0;
    open_fixture(&f, "models/llama-gqa-tied");
    assert_ok(f.ctx, pol_forward_new(f.model[LATE], B * S, S, &other)); /* has buffers of its own */
    for (int64_t i = 0; i < MANY; i++) {
        set_mask(&f, LATE, (uint64_t)i);
        assert_ok(f.ctx, pol_forward_nll(i % 7 ? f.forward[LATE] : other, f.ids, sequences_of(i / 2), length_of(i / 3),
                                         NULL, NULL));
    }
    assert_int_equal(late.n_passes, MANY);
    for (int64_t i = 0; i < MANY; i++)
        for (int64_t j = 0; j < i; j++) {
            const late_pass *p = &late.passes[i], *q = &late.passes[j];
            const bool same_key = p->key_bytes == q->key_bytes && !memcmp(p->key, q->key, p->key_bytes);
            assert_int_equal(same_key, same_calls(p, q));
            *(same_key ? &equal : &different) += 1;
        }
    assert_true(equal > 20 && different > 20);
    pol_forward_free(other);
    close_fixture(&f);
}

/* A device that replays what it has recorded gives what one gives that is called each time. */
static void test_replayed_passes(void **state)
{
    (void)state;
    fixture f;
    open_fixture(&f, "models/llama-gqa-tied");
    results *r = new_results();
    late.replays = true;
    for (int64_t i = 0; i < MANY; i++) {
        set_mask(&f, LATE, (uint64_t)i);
        assert_ok(f.ctx, queue_pass(&f, i, r));
    }
    assert_ok(f.ctx, pol_forward_settle(f.forward[LATE]));
    assert_true(late.n_replayed > MANY / 10 && late.n_passes > 10);
    assert_int_equal(late.n_replayed + late.n_passes, MANY);
    for (int64_t i = 0; i < MANY; i++) {
        set_mask(&f, TWIN, (uint64_t)i);
        check_pass(&f, i, r);
    }
    free(r);
    close_fixture(&f);
}

/* ---- evaluation ---- */

static pol_status stop_at(void *user, int64_t done, int64_t total)
{
    (void)total;
    return done == *(int64_t *)user ? POL_EIO : POL_OK;
}

/* Text is evaluated in stretches that are waited for once each. */
static void test_evaluation_waits_once_a_stretch(void **state)
{
    (void)state;
    fixture f;
    pol_perplexity got, want;
    int64_t stop = 70;
    open_fixture(&f, "models/llama-gqa-tied");
    const pol_sequences s = {.ctx = f.ctx, .n = MANY, .seq_len = S, .ids = f.ids};
    const int64_t passes = (MANY + B - 1) / B, room = pol_forward_max_pending(f.forward[LATE]);
    assert_true(passes > room && passes % room != 0);
    late.syncs = late.downloads_late = 0;
    assert_ok(f.ctx, pol_eval_sequences(f.forward[LATE], &s, NULL, NULL, &got));
    assert_int_equal(late.downloads_late, passes);
    assert_int_equal(late.syncs, (passes + room - 1) / room);
    assert_ok(f.ctx, pol_eval_sequences(f.forward[TWIN], &s, NULL, NULL, &want));
    assert_true(got.nll == want.nll && got.standard_error == want.standard_error);
    assert_int_equal(got.tokens, MANY * (S - 1));
    assert_int_equal(got.chunks, MANY);
    /* What is under way when somebody stops it is dropped. */
    stop = 2 * B;
    assert_int_equal(pol_eval_sequences(f.forward[LATE], &s, stop_at, &stop, &got), POL_EIO);
    late.syncs = 0;
    assert_ok(f.ctx, pol_forward_settle(f.forward[LATE]));
    assert_int_equal(late.syncs, 0);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pass_gets_its_own_results),
        cmocka_unit_test(test_free_with_passes_under_way),
        cmocka_unit_test(test_a_failure_drops_all),
        cmocka_unit_test(test_a_key_says_all),
        cmocka_unit_test(test_replayed_passes),
        cmocka_unit_test(test_evaluation_waits_once_a_stretch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

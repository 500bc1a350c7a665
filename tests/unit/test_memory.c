/* test_memory.c - what is planned is what is taken, and what does not fit is refused before any of it is. */
#include "backends/drivers.h"
#include "core/forward.h"
#include "core/model/weights.h"
#include "core/run/run.h"
#include "pollard/memory.h"
#include "tests/test.h"

/* ---- the verdict, by figures ---- */

enum { MIB = 1 << 20 };

/* A device of its own: 4 MiB of 8 there, 2 MiB of the host's 4. */
static const pol_memory own = {.weight_bytes = 3 * MIB,
                               .activation_bytes = 1 * MIB,
                               .host_bytes = 2 * MIB,
                               .largest_row = 1000,
                               .largest_buffer = MIB / 2,
                               .weight_bits = 32,
                               .device_bytes = 8 * MIB,
                               .available_bytes = 4 * MIB,
                               .max_buffer_bytes = 2 * MIB};

static void expect(pol_context *ctx, pol_memory m, const char *text)
{
    if (text)
        assert_fails(ctx, pol_memory_check(ctx, "model", &m), POL_ELIMIT, text);
    else
        assert_ok(ctx, pol_memory_check(ctx, "model", &m));
}

static void test_device_with_its_own_memory(void **state)
{
    pol_context *ctx = *state;
    pol_memory m = own;
    expect(ctx, m, NULL);
    m.device_bytes = 4 * MIB; /* to the byte */
    m.available_bytes = 2 * MIB;
    expect(ctx, m, NULL);
    m.device_bytes--;
    expect(ctx, m,
           "model: needs 4.00 MiB on the device (weights 3.00 MiB, activations 1.00 MiB), which has 4.00 MiB; "
           "a lower --batch or --seq-len needs less");
    m.device_bytes = 2 * MIB;
    expect(ctx, m, "which has 2.00 MiB; --weights bf16 halves the weights");
    m.weight_bits = 16;
    expect(ctx, m, "which has 2.00 MiB; a --device with more memory is needed");
    m.limited = true;
    expect(ctx, m, "which may have 2.00 MiB; a higher --memory-limit is needed");
    m = own;
    m.available_bytes = 2 * MIB - 1;
    expect(ctx, m, "model: needs 2.00 MiB of the host's memory, 2.00 MiB are available");
}

static void test_memory_shared_with_the_host(void **state)
{
    pol_context *ctx = *state;
    pol_memory m = own;
    m.shared = true;
    m.available_bytes = 6 * MIB;
    expect(ctx, m, NULL);
    m.available_bytes--;
    expect(ctx, m,
           "model: needs 6.00 MiB (weights 3.00 MiB, activations 1.00 MiB, host data 2.00 MiB), 6.00 MiB are "
           "available; a lower --batch or --seq-len needs less");
    m.available_bytes = 60 * (uint64_t)MIB; /* but the driver gives a part of it only */
    m.device_bytes = 4 * MIB - 1;
    expect(ctx, m, "needs 4.00 MiB on the device");
}

static void test_one_allocation(void **state)
{
    pol_context *ctx = *state;
    pol_memory m = own;
    m.largest_buffer = m.largest_row = m.max_buffer_bytes;
    expect(ctx, m, NULL);
    m.largest_buffer++;
    expect(ctx, m,
           "model: needs 2.00 MiB of activations in one buffer, the device gives 2.00 MiB at a time; a lower "
           "--batch or --seq-len needs less");
    m.largest_buffer--;
    m.largest_row++;
    expect(ctx, m, "needs 2.00 MiB for one row of weights, the device gives 2.00 MiB at a time; --weights bf16 halves");
    m.weight_bits = 16;
    expect(ctx, m, "at a time; another --device is needed");
}

static void test_more_than_can_be_counted(void **state)
{
    pol_context *ctx = *state;
    pol_memory m = own;
    m.activation_bytes = UINT64_MAX;
    m.available_bytes = UINT64_MAX - 1;
    expect(ctx, m, "on the device");
    m.shared = true;
    expect(ctx, m, "activations 17179869184.00 GiB, host data 2.00 MiB");
}

/* Weights that visit: three layers' worth on the host, and what is said where that is too much, or streaming no help.
 */
static void test_weights_that_visit(void **state)
{
    pol_context *ctx = *state;
    pol_memory m = own;
    m.placement = (pol_placement){true, 4};
    m.pinned_bytes = 2 * MIB;
    expect(ctx, m, NULL);
    m.available_bytes--;
    expect(ctx, m,
           "model: needs 4.00 MiB of the host's memory (weights, of which two layers at a time fit the device, 2.00 "
           "MiB), 4.00 MiB are available; a --device with more memory is needed, or fewer devices");
    m = own;
    m.device_bytes = 2 * MIB;
    m.streamed_bytes = 2 * MIB + MIB / 2;
    expect(ctx, m,
           "model: needs 4.00 MiB on the device (weights 3.00 MiB, activations 1.00 MiB), which has 2.00 MiB; with "
           "layers that visit it one after the other it would need 2.50 MiB; a lower --batch or --seq-len needs less");
    m.streamed_weight_bytes = 2 * MIB + 1; /* of no help: what there must be of weights is too much */
    m.weight_bits = 16;
    expect(ctx, m, "it would need 2.50 MiB; a --device with more memory is needed");
}

/* ---- a model ---- */

typedef struct fixture {
    pol_context *ctx;
    pol_prune_settings o;
    const char *data[1];
    pol_inputs in;
} fixture;

static void open_inputs(fixture *f)
{
    assert_int_equal(pol_context_new(NULL, &f->ctx), POL_OK);
    f->data[0] = test_file("text/calibration.txt");
    pol_prune_defaults(POL_METHOD_UNITS, &f->o);
    f->o.model = test_file("models/trained");
    f->o.data = f->data;
    f->o.n_data = 1;
    f->o.keep = 0.6;
    f->o.seq_len = 64;
    f->o.batch = 3;
    f->o.backend.name = "cpu";
    assert_ok(f->ctx, pol_prune_resolve(f->ctx, &f->o));
    assert_ok(f->ctx, pol_inputs_open(f->ctx, &f->o, &f->in));
}

static void close_inputs(fixture *f)
{
    pol_inputs_close(&f->in);
    pol_context_free(f->ctx);
}

/* What the backend is asked for; its table gets this buf_new in front. */
static struct {
    const pol_ops *below;
    int64_t calls;
    uint64_t largest_row;
} asked;

static pol_status recording_buf_new(pol_backend *be, pol_dtype dtype, int64_t rows, int64_t row, pol_buf **out)
{
    const uint64_t bytes = (uint64_t)row * pol_dtype_size(dtype);
    asked.calls++;
    asked.largest_row = bytes > asked.largest_row ? bytes : asked.largest_row;
    return asked.below->buf_new(be, dtype, rows, row, out);
}

static void record(pol_backend *be, pol_ops *ops)
{
    asked.below = be->ops;
    asked.calls = 0;
    asked.largest_row = 0;
    *ops = *be->ops;
    ops->buf_new = recording_buf_new;
    be->ops = ops;
}

static void test_refused_before_any_buffer(void **state)
{
    (void)state;
    fixture f = {0};
    pol_ops ops;
    pol_plan plan;
    open_inputs(&f);
    record(f.in.devices[0], &ops);
    const pol_device_info d = f.in.devices[0]->info;
    pol_device_info *now = &f.in.devices[0]->info;
    assert_ok(f.ctx, pol_plan_make(&f.o, &f.in, &plan));
    assert_true(asked.calls > 0); /* the rate was measured */
    const pol_memory need = plan.memory;
    const uint64_t device = need.weight_bytes + need.activation_bytes + need.repair_bytes;
    asked.calls = 0;

    f.o.memory_limit = device + need.host_bytes - 1;
    assert_fails(f.ctx, pol_plan_make(&f.o, &f.in, &plan), POL_ELIMIT, "are available");
    f.o.memory_limit++;
    assert_ok(f.ctx, pol_plan_make(&f.o, &f.in, &plan));
    asked.calls = 0;

    /* A device with memory of its own, to which layers cannot be streamed. The limit goes for that. */
    ops.stream_in = NULL;
    now->host_memory = false;
    f.o.memory_limit = device - 1;
    assert_fails(f.ctx, pol_plan_make(&f.o, &f.in, &plan), POL_ELIMIT, "on the device");
    f.o.memory_limit = UINT64_MAX; /* and makes none */
    now->memory_bytes = device - 1;
    assert_fails(f.ctx, pol_plan_make(&f.o, &f.in, &plan), POL_ELIMIT, "on the device");
    *now = d;
    f.o.memory_limit = 0;
    now->max_buffer_bytes = need.largest_buffer - 1;
    assert_fails(f.ctx, pol_plan_make(&f.o, &f.in, &plan), POL_ELIMIT, "of activations in one buffer");
    assert_int_equal(asked.calls, 0);
    now->max_buffer_bytes++;
    assert_ok(f.ctx, pol_plan_make(&f.o, &f.in, &plan));
    close_inputs(&f);
}

/* Weights, activations and all that a run does with them: what was in use at its highest is what was planned. */
static void test_planned_is_taken(void **state)
{
    (void)state;
    fixture f = {0};
    pol_ops ops;
    pol_plan plan;
    pol_model *m;
    pol_forward *forward;
    open_inputs(&f);
    assert_ok(f.ctx, pol_plan_make(&f.o, &f.in, &plan));
    pol_backend *be = f.in.devices[0];
    record(be, &ops);
    assert_ok(f.ctx, pol_model_load(f.in.src, be, NULL, &m));
    assert_int_equal(be->bytes_in_use, plan.memory.weight_bytes);
    assert_int_equal(asked.largest_row, plan.memory.largest_row);
    asked.largest_row = 0;
    assert_ok(f.ctx, pol_forward_new(m, f.in.max_tokens, f.in.max_seq_len, &forward));
    assert_int_equal(asked.largest_row, plan.memory.largest_buffer);
    assert_ok(f.ctx, pol_forward_nll(forward, f.in.text.ids, f.o.batch, f.o.seq_len, NULL, NULL));
    assert_int_equal(be->bytes_peak, plan.memory.weight_bytes + plan.memory.activation_bytes);
    pol_forward_free(forward);
    pol_model_free(m);
    close_inputs(&f);
}

static uint64_t reserved;

static pol_status recording_reserve(pol_backend *be, uint64_t bytes)
{
    (void)be;
    reserved = bytes;
    return POL_OK;
}

/* Of a device with memory of its own the limit decides how many passes a visit serves; to the byte, and each time what
 * is planned is what is taken. */
static void test_as_many_passes_as_fit(void **state)
{
    (void)state;
    fixture f = {0};
    pol_ops ops;
    open_inputs(&f);
    pol_backend *be = f.in.devices[0];
    const pol_config *c = pol_source_config(f.in.src);
    record(be, &ops);
    ops.reserve = recording_reserve;
    be->info.host_memory = false;
    be->buf_align = 512;
    pol_memory_request r = {.max_tokens = 64, .max_seq_len = 32, .cells = 6};
    pol_memory plan, roomy, more;
    pol_memory_plan(c, be, &r, &roomy);
    assert_false(roomy.placement.streamed);
    assert_int_equal(roomy.placement.cells, 1);
    assert_int_equal(roomy.pinned_bytes + roomy.slot_bytes, 0);
    const uint64_t need = roomy.weight_bytes + roomy.activation_bytes;
    r.limit = need;
    pol_memory_plan(c, be, &r, &plan);
    assert_false(plan.placement.streamed);
    int64_t cells = 7;
    for (r.limit = need - 1; cells > 1; r.limit = plan.weight_bytes + plan.activation_bytes - 1) {
        pol_memory_plan(c, be, &r, &plan);
        assert_true(plan.placement.streamed);
        assert_true(plan.weight_bytes + plan.activation_bytes <= r.limit);
        assert_int_equal(plan.placement.cells, cells == 7 ? plan.placement.cells : cells - 1);
        cells = plan.placement.cells;
        assert_int_equal(plan.streamed_bytes, roomy.streamed_bytes);
        assert_int_equal(plan.pinned_bytes, pol_model_home_bytes(c, be));
        assert_ok(f.ctx, pol_memory_check(f.ctx, "model", &plan));
        if (cells < r.cells) { /* one more would be too much */
            const pol_placement one_more = {true, cells + 1};
            assert_true(pol_model_bytes(c, be, &one_more) + pol_forward_bytes(c, be, &one_more, 64, 32) > r.limit);
        }
        pol_model *m;
        pol_forward *forward;
        assert_ok(f.ctx, pol_memory_reserve(be, &plan));
        assert_int_equal(reserved, plan.weight_bytes + plan.activation_bytes);
        assert_ok(f.ctx, pol_model_load(f.in.src, be, &plan.placement, &m));
        assert_int_equal(be->bytes_in_use, plan.weight_bytes);
        assert_fails(f.ctx, pol_memory_reserve(be, &plan), POL_EARG, "are there already");
        assert_ok(f.ctx, pol_forward_new(m, 64, 32, &forward));
        assert_int_equal(be->bytes_in_use, reserved);
        pol_forward_free(forward);
        pol_model_free(m);
    }
    assert_int_equal(plan.weight_bytes + plan.activation_bytes, plan.streamed_bytes);
    pol_memory_plan(c, be, &r, &plan); /* a byte less than one pass takes */
    assert_false(plan.placement.streamed);
    assert_fails(f.ctx, pol_memory_check(f.ctx, "model", &plan), POL_ELIMIT, "with layers that visit it");
    /* No more than there may be, nor fewer than one; and the host's share rises with them. */
    r = (pol_memory_request){.max_tokens = 4, .max_seq_len = 2, .cells = 1000};
    pol_memory_plan(c, be, &r, &roomy);
    r.limit = roomy.weight_bytes + roomy.activation_bytes - 1;
    pol_memory_plan(c, be, &r, &more);
    assert_int_equal(more.placement.cells, POL_MAX_CELLS);
    r.cells = 0;
    pol_memory_plan(c, be, &r, &plan);
    assert_int_equal(plan.placement.cells, 1);
    assert_true(plan.host_bytes < more.host_bytes);
    /* Where it cannot be done, or is of no use. */
    be->info.host_memory = true;
    pol_memory_plan(c, be, &r, &plan);
    assert_false(plan.placement.streamed || plan.streamed_bytes);
    be->info.host_memory = false;
    ops.stream_in = NULL;
    pol_memory_plan(c, be, &r, &plan);
    assert_false(plan.placement.streamed || plan.streamed_bytes);
    close_inputs(&f);
}

/* Rows of every kind of buffer: biases, layers of differing widths, types of 16 bits. */
static void test_largest_row(void **state)
{
    pol_context *ctx = *state;
    static const char *const models[] = {"models/llama-linear-bias", "models/mistral-window", "models/trained"};
    for (size_t i = 0; i < POL_COUNT(models); i++) {
        pol_backend *be;
        pol_source *src;
        pol_model *m;
        pol_ops ops;
        assert_ok(ctx, pol_reference_open(ctx, &be));
        assert_ok(ctx, pol_source_open(ctx, test_file(models[i]), &src));
        record(be, &ops);
        be->width_tile = 64;
        assert_ok(ctx, pol_model_load(src, be, NULL, &m));
        assert_int_equal(asked.largest_row, pol_model_largest_row(pol_model_config(m), be));
        be->weight_dtype = POL_BF16;
        assert_true(pol_model_largest_row(pol_model_config(m), be) < asked.largest_row);
        pol_model_free(m);
        pol_source_close(src);
        pol_backend_close(be);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device_with_its_own_memory),
        cmocka_unit_test(test_memory_shared_with_the_host),
        cmocka_unit_test(test_one_allocation),
        cmocka_unit_test(test_more_than_can_be_counted),
        cmocka_unit_test(test_weights_that_visit),
        cmocka_unit_test(test_refused_before_any_buffer),
        cmocka_unit_test(test_planned_is_taken),
        cmocka_unit_test(test_as_many_passes_as_fit),
        cmocka_unit_test(test_largest_row),
    };
    return cmocka_run_group_tests(tests, test_context_open, test_context_close);
}

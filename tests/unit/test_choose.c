/* test_choose.c - which device of a list is meant: invented lists, since no machine has them all. */
#include "backends/choose.h"
#include "tests/test.h"

static pol_context *ctx;

static pol_device_info device(const char *backend, int32_t index, const char *name, pol_device_type type)
{
    pol_device_info d = {.index = index, .type = type, .usable = true};
    snprintf(d.backend, sizeof d.backend, "%s", backend);
    snprintf(d.name, sizeof d.name, "%s", name);
    return d;
}

static pol_device_info unusable(pol_device_info d, const char *reason)
{
    d.usable = false;
    snprintf(d.reason, sizeof d.reason, "%s", reason);
    return d;
}

/* Expects the device at `at` of the list. */
static void chosen(const char *backend, const char *asked, const pol_device_info *list, int64_t n, int64_t at)
{
    const pol_device_info *out;
    assert_ok(ctx, pol_device_choose(ctx, backend, asked, list, n, &out));
    if (out != &list[at])
        fail_msg("%s, %s: %s %d was chosen", backend ? backend : "auto", asked ? asked : "any", out->backend,
                 out->index);
}

static void refused(const char *backend, const char *asked, const pol_device_info *list, int64_t n, const char *text)
{
    const pol_device_info *out;
    const pol_status code = strstr(text, "cannot be used") ? POL_EUNSUPPORTED : POL_EARG;
    assert_fails(ctx, pol_device_choose(ctx, backend, asked, list, n, &out), code, text);
    assert_null(out);
}

/* A workstation: the processor by OpenCL, a graphics card of each of two makers, an old one, and the cpu backend. */
enum { PROCESSOR, ARC, OLD, RADEON, CPU, WORKSTATION };

static void workstation(pol_device_info out[WORKSTATION])
{
    out[PROCESSOR] = device("opencl", 0, "pthread-Ryzen 9", POL_DEVICE_CPU);
    out[ARC] = device("opencl", 1, "Intel(R) Arc(TM) A770", POL_DEVICE_GPU);
    out[OLD] = unusable(device("opencl", 2, "Radeon HD 4850", POL_DEVICE_GPU), "OpenCL 1.0; 1.2 is needed");
    out[RADEON] = device("opencl", 3, "Radeon RX 7600", POL_DEVICE_GPU);
    out[CPU] = device("cpu", 0, "AMD Ryzen 9", POL_DEVICE_CPU);
}

static void test_no_device_named(void **state)
{
    (void)state;
    pol_device_info w[WORKSTATION];
    workstation(w);
    chosen(NULL, NULL, w, WORKSTATION, ARC);
    chosen("opencl", NULL, w, CPU, ARC);
    w[ARC] = unusable(w[ARC], "its driver brings no compiler");
    chosen(NULL, NULL, w, WORKSTATION, RADEON);
    chosen("opencl", NULL, w, CPU, RADEON);
    w[RADEON] = unusable(w[RADEON], "it is big-endian");
    chosen(NULL, NULL, w, WORKSTATION, CPU); /* not the processor by way of OpenCL */
    chosen("opencl", NULL, w, CPU, PROCESSOR);
    chosen("cpu", NULL, &w[CPU], 1, 0);
    w[PROCESSOR] = unusable(w[PROCESSOR], "its driver says that it is not available");
    refused("opencl", NULL, w, CPU,
            "device: opencl 0 (pthread-Ryzen 9) cannot be used: its driver says that it is not available");
    refused("opencl", NULL, w, 0, "there is none");
}

static void test_accelerators_count_as_devices(void **state)
{
    (void)state;
    const pol_device_info list[] = {device("opencl", 0, "processor", POL_DEVICE_CPU),
                                    device("opencl", 1, "board", POL_DEVICE_ACCELERATOR),
                                    device("cpu", 0, "processor", POL_DEVICE_CPU)};
    chosen(NULL, NULL, list, 3, 1);
    chosen("opencl", NULL, list, 2, 1);
}

static void test_index(void **state)
{
    (void)state;
    pol_device_info w[WORKSTATION];
    workstation(w);
    chosen("opencl", "0", w, CPU, PROCESSOR);
    chosen("opencl", "3", w, CPU, RADEON);
    refused("opencl", "2", w, CPU, "opencl 2 (Radeon HD 4850) cannot be used: OpenCL 1.0; 1.2 is needed");
    refused("opencl", "4", w, CPU, "device: '4' is none of the devices: opencl 0 (pthread-Ryzen 9), opencl 1 (Intel");
    refused("opencl", "03", w, CPU, "device: '03' is none of the devices");
    refused("opencl", "-1", w, CPU, "device: '-1' is none of the devices");
    refused("opencl", "99999999999999999999", w, CPU, "is none of the devices");
    refused(NULL, "0", w, WORKSTATION, "--backend says whose device 0 is meant");
    /* 770 is in a name, but a number is an index. */
    refused("opencl", "770", w, CPU, "device: '770' is none of the devices");
}

static void test_name(void **state)
{
    (void)state;
    pol_device_info w[WORKSTATION];
    workstation(w);
    chosen("opencl", "Intel(R) Arc(TM) A770", w, CPU, ARC);
    chosen("opencl", "radeon rx 7600", w, CPU, RADEON);
    chosen("opencl", "arc", w, CPU, ARC);
    chosen(NULL, "arc", w, WORKSTATION, ARC);
    chosen(NULL, "amd ryzen 9", w, WORKSTATION, CPU);
    refused("opencl", "GeForce", w, CPU, "device: 'GeForce' is none of the devices: opencl 0");
    refused("opencl", "", w, CPU, "is none of the devices");
    refused("opencl", "x", w, 0, "is none of the devices: none");
    refused(NULL, "HD 4850", w, WORKSTATION, "opencl 2 (Radeon HD 4850) cannot be used");
    /* Part of several names, one of them of no use: what is meant is not known. */
    refused("opencl", "Radeon", w, CPU,
            "device: 'Radeon' is more than one; --backend and an index say which: opencl 2 (Radeon HD 4850), opencl 3 "
            "(Radeon RX 7600)");
    refused(NULL, "ryzen", w, WORKSTATION,
            "more than one; --backend and an index say which: opencl 0 (pthread-Ryzen 9), cpu 0");
}

static void test_equal_names(void **state)
{
    (void)state;
    const pol_device_info list[] = {device("opencl", 0, "GPU X", POL_DEVICE_GPU),
                                    device("opencl", 1, "GPU X", POL_DEVICE_GPU),
                                    device("opencl", 2, "GPU X Ti", POL_DEVICE_GPU)};
    refused("opencl", "GPU X", list, 3,
            "more than one; --backend and an index say which: opencl 0 (GPU X), opencl 1 (GPU X)");
    assert_null(strstr(pol_error_text(ctx), "Ti")); /* the whole name of others comes before a part of its own */
    chosen("opencl", "GPU X", &list[1], 2, 0);
    chosen("opencl", "gpu x", &list[1], 2, 0);
    chosen("opencl", "ti", list, 3, 2);
    chosen("opencl", "1", list, 3, 1);
    chosen("opencl", NULL, list, 3, 0);
}

/* Expects those devices, in that order: "1 3". */
static void chosen_together(const char *backend, const char *asked, const pol_device_info *list, int64_t n,
                            const char *expected)
{
    const pol_device_info *out[16];
    char got[64] = "";
    int64_t n_out;
    assert_ok(ctx, pol_devices_choose(ctx, backend, asked, list, n, out, &n_out));
    for (int64_t i = 0; i < n_out; i++)
        sprintf(got + strlen(got), "%s%d", i ? " " : "", (int)(out[i] - list));
    assert_string_equal(got, expected);
}

static void refused_together(const char *backend, const char *asked, const pol_device_info *list, int64_t n,
                             const char *text)
{
    const pol_device_info *out[16];
    int64_t n_out;
    const pol_status code = strstr(text, "cannot be used") ? POL_EUNSUPPORTED : POL_EARG;
    assert_fails(ctx, pol_devices_choose(ctx, backend, asked, list, n, out, &n_out), code, text);
}

/* A server: four cards by CUDA, one of them of no use, the same by OpenCL, the processor twice. */
static void test_several(void **state)
{
    (void)state;
    enum { CUDA = 4, OPENCL = 4, N = 9 };
    const pol_device_info list[N] = {
        device("cuda", 0, "A100", POL_DEVICE_GPU),
        device("cuda", 1, "A100", POL_DEVICE_GPU),
        unusable(device("cuda", 2, "K80", POL_DEVICE_GPU), "compute capability 3.7; 8.0 is needed"),
        device("cuda", 3, "H100", POL_DEVICE_GPU),
        device("opencl", 0, "A100", POL_DEVICE_GPU),
        device("opencl", 1, "pthread-EPYC", POL_DEVICE_CPU),
        device("opencl", 2, "W6800", POL_DEVICE_GPU),
        device("opencl", 3, "EPYC, another driver's", POL_DEVICE_CPU),
        device("cpu", 0, "AMD EPYC", POL_DEVICE_CPU),
    };
    chosen_together(NULL, NULL, list, N, "0");
    chosen_together(NULL, "all", list, N, "0 1 3"); /* of one backend; none that is of no use, none that is a CPU */
    chosen_together("opencl", "all", &list[CUDA], OPENCL, "0 2");
    chosen_together("opencl", "all", &list[CUDA + 3], 1, "0"); /* the processor, where there is nothing else */
    chosen_together("cpu", "all", &list[N - 1], 1, "0");
    chosen_together("cuda", "3,0,1", list, CUDA, "3 0 1");
    chosen_together("cuda", "1", list, CUDA, "1");
    chosen_together("cuda", "h100,0", list, CUDA, "3 0");
    chosen_together("cuda", "h100, 0", list, CUDA, "3 0");
    chosen_together(NULL, "h100", list, N, "3");
    chosen_together("opencl", "2,pthread", &list[CUDA], OPENCL, "2 1");
    chosen_together("opencl", "epyc, another driver's", &list[CUDA], OPENCL, "3"); /* a whole name, comma and all */
    refused_together("cuda", "0,1,0", list, CUDA, "device: cuda 0 (A100) is named twice");
    refused_together("cuda", "3,H100", list, CUDA, "device: cuda 3 (H100) is named twice");
    refused_together("cuda", "0,2", list, CUDA, "cuda 2 (K80) cannot be used: compute capability 3.7");
    refused_together("cuda", "0,4", list, CUDA, "device: '4' is none of the devices: cuda 0 (A100), ");
    refused_together("cuda", "0,,1", list, CUDA, "device: '' is none of the devices");
    refused_together("cuda", ",0", list, CUDA, "device: '' is none of the devices");
    refused_together("cuda", "0,all", list, CUDA, "device: 'all' stands for several devices, and one is wanted here");
    refused_together("cuda", "A100,3", list, CUDA, "device: 'A100' is more than one; --backend and an index say which");
    refused_together(NULL, "0,1", list, N, "--backend says whose device 0 is meant");
    refused_together(
        NULL, "h100,w6800", list, N,
        "device: cuda 3 (H100) and opencl 2 (W6800) are of different backends: their numbers would differ");
    refused_together("cuda", "all", &list[2], 1, "cuda 2 (K80) cannot be used");
    refused_together("cuda", "all", list, 0, "there is none");
    /* Where one is wanted. */
    refused("cuda", "0,1", list, CUDA, "device: '0,1' stands for several devices, and one is wanted here");
    refused("cuda", "all", list, CUDA, "device: 'all' stands for several devices");
    chosen("opencl", "EPYC, another", &list[CUDA], OPENCL, 3); /* a comma may be in a name */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_device_named), cmocka_unit_test(test_accelerators_count_as_devices),
        cmocka_unit_test(test_index),           cmocka_unit_test(test_name),
        cmocka_unit_test(test_equal_names),     cmocka_unit_test(test_several),
    };
    if (pol_context_new(NULL, &ctx) != POL_OK)
        return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pol_context_free(ctx);
    return failed;
}

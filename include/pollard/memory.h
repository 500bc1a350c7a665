/* memory.h - what a model and passes over it take, known before any of it is taken. */
#ifndef POLLARD_MEMORY_H
#define POLLARD_MEMORY_H

#include "pollard/config.h"
#include "pollard/device.h"
#include "pollard/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pol_memory_request {
    int64_t max_tokens, max_seq_len; /* of pol_forward_new() */
    int64_t max_targets;             /* of a position, where more than the next token is asked for; 0 = 1 */
    int64_t cells; /* passes that are waited for together; a visit of a layer had best serve them all */
    uint64_t host_bytes, device_bytes; /* besides */
    /* On the device, but not while those are there: levels of repaired rows, all of them, or the least that will do. */
    uint64_t level_bytes, least_level_bytes;
    uint64_t limit; /* bytes, 0 = none: for what is free where memory is shared, else for what the device has, if that
                     * is more */
} pol_memory_request;

typedef struct pol_memory {
    int64_t max_targets;     /* the request's */
    pol_placement placement; /* streamed where the device has no room for all weights, but for layers that visit */
    /* Needed. */
    uint64_t weight_bytes, activation_bytes; /* on the device, to the byte */
    int32_t n_layers;                        /* that visit, where streamed */
    uint64_t slot_bytes;                     /* where streamed: of the weights, for each of the two layers there */
    uint64_t pinned_bytes;                   /* where streamed: of the host's, for the weights of all layers */
    uint64_t streamed_bytes;                 /* on the device, if layers visited it, one pass a visit; 0: they cannot */
    uint64_t streamed_weight_bytes;          /* weights among these */
    uint64_t repair_bytes;                   /* on the device, of device_bytes and levels, the larger */
    uint64_t level_bytes;                    /* all levels, the request's; 0 where layers visit: there are none */
    bool levels_resident;                    /* there is room for all of them, else they are read when wanted */
    uint64_t host_bytes;                     /* besides, about */
    uint64_t largest_row;                    /* of the weights, which a device may hold in pieces of whole rows */
    uint64_t largest_buffer;                 /* of the activations, which are held whole */
    int32_t weight_bits;                     /* of an element of the matrices: 16 or 32 */
    /* There. */
    bool shared;               /* the device's memory is the host's */
    uint64_t device_bytes;     /* all that the device has, used or not; or less, by the limit */
    uint64_t available_bytes;  /* what is free of the host's */
    uint64_t max_buffer_bytes; /* of the device's, at a time */
    bool limited;              /* device_bytes is the request's limit */
} pol_memory;

/* For pol_model_load() with out->placement, and pol_forward_new(). Takes nothing. */
POL_API void pol_memory_plan(const pol_config *c, pol_backend *be, const pol_memory_request *r, pol_memory *out);
/* POL_ELIMIT, with what `model` needs, what there is and what to do, where it does not fit. To be called before the
 * first buffer is made. */
POL_API pol_status pol_memory_check(pol_context *ctx, const char *model, const pol_memory *m);
/* What is planned, taken in one piece where the backend can, before the first buffer is made. POL_ENOMEM: the device
 * has not as much that is free. */
POL_API pol_status pol_memory_reserve(pol_backend *be, const pol_memory *m);

#ifdef __cplusplus
}
#endif
#endif

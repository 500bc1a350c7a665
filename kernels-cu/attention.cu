/* attention.cu - the seam's attention: which form does it. */
#include "kernels-cu/attention.cuh"

enum { LONGEST_IN_ONE_PASS = 512 };

extern "C" bool pol_cu_attention_serves(cu_attention_form form, int64_t S, int64_t g, int64_t D, int max_shared_bytes)
{
    (void)g; /* any: a tile of rows may begin and end anywhere among the heads of a position */
    switch (form) {
    case POL_CU_ATTENTION_AUTO:
    case POL_CU_ATTENTION_PLAIN: return true;
    case POL_CU_ATTENTION_ONE_PASS:
        return S <= LONGEST_IN_ONE_PASS && attention_tiles_serve(S, D, true, max_shared_bytes);
    case POL_CU_ATTENTION_ONLINE: return attention_tiles_serve(S, D, false, max_shared_bytes);
    }
    return false;
}

extern "C" cudaError_t pol_cu_attention(cudaStream_t stream, const cu_attention *a)
{
    static const cu_attention_form by_preference[] = {POL_CU_ATTENTION_ONE_PASS, POL_CU_ATTENTION_ONLINE,
                                                      POL_CU_ATTENTION_PLAIN};
    cu_attention_form form = a->form;
    for (int i = 0; form == POL_CU_ATTENTION_AUTO; i++)
        if (pol_cu_attention_serves(by_preference[i], a->S, a->g, a->D, a->max_shared_bytes))
            form = by_preference[i];
    if (!pol_cu_attention_serves(form, a->S, a->g, a->D, a->max_shared_bytes))
        return cudaErrorInvalidValue;
    return form == POL_CU_ATTENTION_PLAIN ? attention_plain(stream, a)
                                          : attention_tiles(stream, a, form == POL_CU_ATTENTION_ONE_PASS);
}

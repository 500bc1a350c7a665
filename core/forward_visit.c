/* forward_visit.c - passes through a streamed model: all that are queued go through a layer while it visits the device.
 *
 * A layer takes longer to arrive than a pass takes to go through it, so a visit serves as many passes as there is room
 * for, each with a residual stream of its own: a cell. In a slot the layer's units are put in the order of one cell
 * after the other. That is the order in which a resident model would have them, so sums are the same to the last bit;
 * and where masks follow each other as they were set, the moves are the same, too.
 */
#include <string.h>

#include "core/forward_state.h"

/* The first layers set out while further masks are drawn. */
static pol_status send_for_first_layers(pol_model *m)
{
    for (int32_t l = 0; l < 2 && l < m->config.n_layers; l++)
        POL_TRY(pol_model_fetch(m, l));
    return POL_OK;
}

pol_status pol_forward_note_cell(pol_forward *f, int64_t i)
{
    const pol_model *m = f->m;
    pol_cell *cell = &f->cell[i];
    if (i == 0)
        POL_TRY(send_for_first_layers(f->m));
    pol_model_get_order(m, cell->order);
    memcpy(cell->kept, m->arrangement->kept, 2 * (size_t)m->config.n_layers * sizeof *cell->kept);
    f->x = cell->x;
    return pol_forward_embed(f);
}

/* Pending pass i is the one under way. */
static void take_up(pol_forward *f, int64_t i)
{
    f->x = f->cell[i].x;
    f->B = f->pending[i].B;
    f->S = f->pending[i].S;
    f->k = pol_max_i64(f->pending[i].k, 1);
}

static pol_status pass_layer(pol_forward *f, int64_t i, int32_t layer)
{
    pol_model *m = f->m;
    const pol_cell *cell = &f->cell[i];
    pol_layer_weights w = m->layers[layer];
    take_up(f, i);
    w.n_groups = cell->kept[layer];
    w.n_channels = cell->kept[m->config.n_layers + layer];
    POL_TRY(pol_model_visit(m, layer, cell->order, &w));
    POL_TRY(pol_forward_attention_of(f, &w, NULL));
    return pol_forward_mlp_of(f, &w, NULL);
}

/* The next layer sets out before this one is computed: the slot it goes to is then free, and it travels meanwhile. */
static pol_status visit(pol_forward *f, int32_t layer)
{
    POL_TRY(pol_model_fetch(f->m, layer));
    if (layer + 1 < f->m->config.n_layers)
        POL_TRY(pol_model_fetch(f->m, layer + 1));
    for (int64_t i = 0; i < f->n_pending; i++)
        POL_TRY(pass_layer(f, i, layer));
    return POL_OK;
}

static pol_status score_all(pol_forward *f)
{
    for (int64_t i = 0; i < f->n_pending; i++) {
        take_up(f, i);
        POL_TRY(pol_forward_score(f, i));
    }
    return POL_OK;
}

int32_t pol_forward_visits(const pol_forward *f) { return f->m->config.n_layers + 1; }

pol_status pol_forward_visit(pol_forward *f, int32_t i)
{
    return i < f->m->config.n_layers ? visit(f, i) : score_all(f);
}

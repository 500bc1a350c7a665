/* results_json.c - results as JSON values, one place for their keys (docs/json.md). */
#include <math.h>

#include "core/base/base.h"
#include "pollard/json.h"

/* JSON has no NaN and no infinity. */
static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

json_t *pol_perplexity_json(const pol_perplexity *p)
{
    return json_pack("{so so so sI sI sI sI ss ss ss}", "perplexity", number(p->perplexity), "nll", number(p->nll),
                     "standard_error", number(p->standard_error), "tokens", (json_int_t)p->tokens, "chunks",
                     (json_int_t)p->chunks, "bad_chunks", (json_int_t)p->bad_chunks, "seq_len", (json_int_t)p->seq_len,
                     "protocol", p->protocol, "bos", pol_bos_name(p->bos), "text_format",
                     pol_text_format_name(p->format));
}

json_t *pol_task_result_json(const pol_task_result *r)
{
    return json_pack("{ss sI sI sI sI so so so so}", "task", r->how->name, "items", (json_int_t)r->items, "bad_items",
                     (json_int_t)r->bad_items, "choices", (json_int_t)r->choices, "cut_choices", (json_int_t)r->cut,
                     "acc", number(r->acc), "acc_standard_error", number(r->acc_error), "acc_norm", number(r->norm),
                     "acc_norm_standard_error", number(r->norm_error));
}

json_t *pol_outcome_json(const pol_outcome *x)
{
    json_t *j = json_pack("{sI sI sI so}", "params", (json_int_t)x->params, "block_params", (json_int_t)x->block_params,
                          "macs", (json_int_t)x->macs, "held_out_nll", number(x->held_out));
    if (x->perplexity.tokens)
        json_object_set_new(j, "perplexity", pol_perplexity_json(&x->perplexity));
    return j;
}

json_t *pol_repair_settings_json(const pol_repair_settings *o)
{
    json_t *j = json_pack("{ss}", "kind", pol_repair_names[o->kind]);
    if (o->kind != POL_REPAIR_NONE)
        json_object_set_new(j, "sequences", o->sequences == POL_AUTO ? json_null() : json_integer(o->sequences));
    if (o->kind != POL_REPAIR_RIDGE)
        return j;
    json_t *targets = json_array();
    for (int t = 0; t < POL_REPAIR_TARGETS; t++)
        if (o->targets >> t & 1)
            json_array_append_new(targets, json_string(pol_repair_target_names[t]));
    json_object_set_new(j, "targets", targets);
    json_object_set_new(j, "damping", json_real(o->damping));
    json_object_set_new(j, "refit_inputs", json_real(o->refit_inputs));
    return j;
}

json_t *pol_repair_outcome_json(const pol_repair_outcome *x)
{
    json_t *j =
        json_pack("{ss so sI sI sf}", "kind", pol_repair_names[x->kind], "masked_held_out_nll", number(x->masked),
                  "sequences", (json_int_t)x->sequences, "passes", (json_int_t)x->passes, "seconds", x->seconds);
    json_t *tried = json_object();
    for (int t = 0; t < POL_REPAIR_TARGETS; t++)
        if (isfinite(x->held_out[t]))
            json_object_set_new(tried, x->tried == POL_REPAIR_BIAS ? "bias" : pol_repair_target_names[t],
                                json_real(x->held_out[t]));
    json_object_set_new(j, "held_out_nll", tried);
    if (x->kind == POL_REPAIR_RIDGE)
        json_object_set_new(j, "target", json_string(pol_repair_target_names[x->target]));
    return j;
}

json_t *pol_sequences_json(const int64_t sequences[POL_PURPOSES])
{
    json_t *j = json_object();
    for (int p = 0; p < POL_PURPOSES; p++)
        json_object_set_new(j, pol_purpose_names[p], json_integer((json_int_t)sequences[p]));
    return j;
}

/* jansson counts up to INT64_MAX. */
static json_t *bytes(uint64_t n) { return json_integer((json_int_t)(n < INT64_MAX ? n : INT64_MAX)); }

json_t *pol_placement_json(const pol_memory *m)
{
    return json_pack("{sb sI sI so so}", "streamed", (int)m->placement.streamed, "layers",
                     (json_int_t)(m->placement.streamed ? m->n_layers : 0), "passes_per_visit",
                     (json_int_t)m->placement.cells, "slot_bytes", bytes(m->slot_bytes), "pinned_bytes",
                     bytes(m->pinned_bytes));
}

json_t *pol_plan_json(const pol_plan *p)
{
    const pol_memory *m = &p->memory;
    return json_pack(
        "{so sI so sI ss so so so so sb so so so sb sI sI sI sI so sI sf sb}", "device", pol_device_json(&p->device),
        "devices", (json_int_t)p->n_devices, "placement", pol_placement_json(m), "step_passes",
        (json_int_t)p->step_passes, "weights", p->weights, "weight_bytes", bytes(m->weight_bytes), "activation_bytes",
        bytes(m->activation_bytes), "repair_bytes", bytes(m->repair_bytes), "level_bytes", bytes(m->level_bytes),
        "levels_resident", (int)m->levels_resident, "host_bytes", bytes(m->host_bytes), "device_bytes",
        bytes(m->device_bytes), "available_bytes", bytes(m->available_bytes), "shared_memory", (int)m->shared, "units",
        (json_int_t)p->units, "variables", (json_int_t)p->variables, "steps", (json_int_t)p->steps, "pilot",
        (json_int_t)p->pilot, "forward_sequences", pol_sequences_json(p->sequences), "tokens", (json_int_t)p->tokens,
        "seconds", p->seconds, "text_assumed", (int)p->text_assumed);
}

json_t *pol_device_json(const pol_device_info *d)
{
    json_t *j = json_pack("{ss si ss ss ss so so sb sb ss sb}", "backend", d->backend, "index", (int)d->index, "name",
                          d->name, "platform", d->platform, "type", pol_device_type_names[d->type], "memory_bytes",
                          bytes(d->memory_bytes), "max_buffer_bytes", bytes(d->max_buffer_bytes), "host_memory",
                          (int)d->host_memory, "fp16", (int)d->fp16, "detail", d->detail, "usable", (int)d->usable);
    if (!d->usable)
        json_object_set_new(j, "reason", json_string(d->reason));
    return j;
}

json_t *pol_backend_json(const pol_backend_summary *b)
{
    return json_pack("{ss sb sI so}", "name", b->name, "built", (int)b->built, "devices", (json_int_t)b->n_devices,
                     "note", b->note[0] ? json_string(b->note) : json_null());
}

json_t *pol_config_json(const pol_config *c)
{
    json_t *layers = json_array();
    for (int32_t l = 0; l < c->n_layers; l++)
        json_array_append_new(
            layers, json_pack("{si si}", "groups", (int)c->layers[l].n_groups, "channels", (int)c->layers[l].ffn));
    return json_pack("{ss si si si si si si si si si sb sI sI sI so}", "family", c->family, "layers", (int)c->n_layers,
                     "hidden_size", (int)c->hidden, "query_heads", (int)(c->n_groups * c->heads_per_group), "groups",
                     (int)c->n_groups, "head_size", (int)c->head_dim, "mlp_width", (int)c->ffn, "vocabulary",
                     (int)c->vocab, "max_positions", (int)c->max_positions, "window", (int)c->window, "tied",
                     (int)c->tied, "params", (json_int_t)pol_config_total_params(c), "block_params",
                     (json_int_t)pol_config_block_params(c), "macs", (json_int_t)pol_config_macs(c), "layer_shapes",
                     layers);
}

/* texts.c - the calibration text of a run: one, from files that follow each other, or several with weights.
 *
 * Several texts are packed apart, and lie in the set as
 *
 *     learnt from:  text 0 | text 1 | ...   held out:  text 0 | text 1 | ...
 *
 * so that who needs no more than "learnt from" and "held out" finds them where they are of one text.
 */
#include <string.h>

#include "core/base/file.h"
#include "core/run/run.h"

/* One text of several. */
typedef struct text {
    pol_sequences all;
    int64_t held; /* of its sequences: the last */
    double share; /* of its weight in the sum of all */
} text;

static pol_status check_weights(const pol_prune_settings *o, pol_context *ctx, double *sum)
{
    *sum = 0;
    for (int64_t i = 0; i < o->n_data; i++) {
        const double w = o->data_weights[i];
        if (!(w > 0 && w <= 1e9))
            return pol_fail(ctx, POL_EARG, "weight of %s: %g is no positive number up to 1e9", o->data[i], w);
        *sum += w;
    }
    if (o->held_out && o->held_out < o->n_data)
        return pol_fail(ctx, POL_EARG, "held-out sequences: %lld, but there are %lld texts", (long long)o->held_out,
                        (long long)o->n_data);
    return POL_OK;
}

/* Every text gives at least one, and each further one comes from the text that has given least for its weight. */
static void share_held_out(int64_t held_out, text *t, int64_t n)
{
    for (int64_t left = held_out; left > 0; left--) {
        int64_t next = 0;
        for (int64_t i = 1; i < n; i++)
            if ((double)t[i].held / t[i].share < (double)t[next].held / t[next].share)
                next = i;
        t[next].held++;
    }
}

static pol_status read_text(const pol_prune_settings *o, pol_inputs *in, int64_t i, text *t)
{
    const int64_t limit = o->max_sequences ? (int64_t)((double)o->max_sequences * t->share) + 1 : 0;
    POL_TRY(pol_sequences_read(in->ctx, in->tok, pol_source_config(in->src)->vocab, &o->data[i], 1, &o->text,
                               o->seq_len, o->bos, limit, &t->all));
    if (t->all.n <= t->held)
        return pol_fail(in->ctx, POL_EFORMAT,
                        "%s: %lld sequences of %lld tokens, too few to hold %lld out and learn from the rest",
                        o->data[i], (long long)t->all.n, (long long)o->seq_len, (long long)t->held);
    return POL_OK;
}

/* Texts of one length, and one policy, to one set. */
static pol_status join(const pol_prune_settings *o, pol_inputs *in, const text *t)
{
    pol_sequences *out = &in->text;
    const size_t bytes = (size_t)o->seq_len * sizeof *out->ids;
    *out = (pol_sequences){.ctx = in->ctx, .seq_len = o->seq_len, .bos = t[0].all.bos, .format = t[0].all.format};
    for (int64_t i = 0; i < o->n_data; i++) {
        out->n += t[i].all.n;
        out->documents += t[i].all.documents;
        out->text_tokens += t[i].all.text_tokens;
    }
    in->n_learn = out->n - o->held_out;
    in->n_parts = o->n_data;
    in->parts = pol_alloc_array(in->ctx, o->n_data, sizeof *in->parts);
    in->held_weight = pol_alloc_array(in->ctx, o->held_out, sizeof *in->held_weight);
    out->ids = pol_alloc_array(in->ctx, out->n * o->seq_len, sizeof *out->ids);
    if (!in->parts || !in->held_weight || !out->ids)
        return POL_ENOMEM;
    char *learn = (char *)out->ids, *held = learn + (size_t)in->n_learn * bytes;
    double *weight = in->held_weight;
    for (int64_t i = 0; i < o->n_data; i++) {
        const int64_t n = t[i].all.n - t[i].held;
        in->parts[i] = (pol_deck_part){.n = n, .weight = t[i].share};
        memcpy(learn, t[i].all.ids, (size_t)n * bytes);
        memcpy(held, t[i].all.ids + n * o->seq_len, (size_t)t[i].held * bytes);
        learn += (size_t)n * bytes;
        held += (size_t)t[i].held * bytes;
        for (int64_t k = 0; k < t[i].held; k++)
            *weight++ = t[i].share / (double)t[i].held;
    }
    pol_bytes_hash(out->ids, (size_t)out->n * bytes, out->hash);
    return POL_OK;
}

static pol_status read_several(const pol_prune_settings *o, pol_inputs *in)
{
    double sum;
    POL_TRY(check_weights(o, in->ctx, &sum));
    text *t = pol_alloc_zero(in->ctx, (size_t)o->n_data * sizeof *t);
    if (!t)
        return POL_ENOMEM;
    for (int64_t i = 0; i < o->n_data; i++)
        t[i].share = o->data_weights[i] / sum;
    share_held_out(o->held_out, t, o->n_data);
    pol_status s = POL_OK;
    for (int64_t i = 0; s == POL_OK && i < o->n_data; i++)
        s = read_text(o, in, i, &t[i]);
    if (s == POL_OK)
        s = join(o, in, t);
    for (int64_t i = 0; i < o->n_data; i++)
        pol_sequences_free(&t[i].all);
    pol_free(in->ctx, t);
    return s;
}

static pol_status read_one(const pol_prune_settings *o, pol_inputs *in)
{
    POL_TRY(pol_sequences_read(in->ctx, in->tok, pol_source_config(in->src)->vocab, o->data, o->n_data, &o->text,
                               o->seq_len, o->bos, o->max_sequences, &in->text));
    in->n_learn = in->text.n - o->held_out;
    return POL_OK;
}

pol_status pol_texts_read(const pol_prune_settings *o, pol_inputs *in)
{
    POL_TRY(o->data_weights ? read_several(o, in) : read_one(o, in));
    if (in->n_learn < o->learn.sequences_per_mask || in->n_learn < 1)
        return pol_fail(in->ctx, POL_EFORMAT,
                        "%s: %lld sequences of %lld tokens, too few to hold %lld out and learn from the rest",
                        o->data[0], (long long)in->text.n, (long long)o->seq_len, (long long)o->held_out);
    return POL_OK;
}

double pol_held_out_mean(const pol_inputs *in, const double *loss, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += in->held_weight ? in->held_weight[i] * loss[i] : loss[i];
    return in->held_weight ? sum : sum / (double)n;
}

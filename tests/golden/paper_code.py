"""What the paper's code does, written from its description alone, for the golden files of wanda.py and reference_run.py.

Units are numbered as Pollard numbers them: all key/value groups layer by layer, all channels, then two blocks a layer.
Random numbers follow core/base/rng.h, so that a script draws the masks that a run draws.
"""
import numpy as np
import torch

STREAM_MASK, STREAM_SHUFFLE, STREAM_INIT = 1, 2, 3
GROUP, CHANNEL = 0, 1


def philox(seed, stream, step, sample, blocks):
    """Philox4x32-10 (Salmon et al. 2011): words [len(blocks), 4]."""
    low = np.uint64(0xFFFFFFFF)
    blocks = np.asarray(blocks, np.uint64)
    c = [blocks, np.full_like(blocks, sample), np.full_like(blocks, step & 0xFFFFFFFF),
         np.full_like(blocks, stream | (step >> 32) << 8)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(q >> np.uint64(32)) ^ c[1] ^ np.uint64(key[0]), q & low, (p >> np.uint64(32)) ^ c[3] ^ np.uint64(key[1]),
             p & low]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c, 1)


assert philox(0, 0, 0, 0, [0])[0].tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]  # published vector


def uniform(seed, stream, step, sample, n):
    """Upper 24 bits of a word each."""
    words = philox(seed, stream, step, sample, np.arange((n + 3) // 4)).reshape(-1)[:n]
    return (words >> np.uint64(8)).astype(np.float64) * 2.0**-24


def normal(seed, stream, n):
    """Box-Muller on the pairs of words."""
    w = philox(seed, stream, 0, 0, np.arange((n + 3) // 4)).reshape(-1, 2).astype(np.float64)
    radius, angle = np.sqrt(-2 * np.log((w[:, 0] + 0.5) * 2.0**-32)), 2 * np.pi * w[:, 1] * 2.0**-32
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)[:n]


def permutation(seed, stream, step, n):
    """Fisher-Yates from the end, 64 bits a draw."""
    order = list(range(n))
    words = philox(seed, stream, step, 0, np.arange(n)).tolist()
    for i in range(n - 1, 0, -1):
        j = ((words[i][0] << 32) | words[i][1]) % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def sigmap(metric, keep):
    """Initial probabilities of one layer and kind."""
    metric = np.asarray(metric, np.float64)
    std = metric.std(ddof=1) if len(metric) > 1 else 0.0
    y = 1 / (1 + np.exp(-(metric - metric.mean()) / (std + 1e-8)))
    return np.clip(y - y.mean() + keep, 0, 1)


class Pruned:
    """A causal LM of transformers under a mask, by hooks on what enters o_proj and down_proj."""

    def __init__(self, model):
        self.model, c = model.eval(), model.config
        self.L, self.G, self.F, self.C = c.num_hidden_layers, c.num_key_value_heads, c.intermediate_size, c.hidden_size
        self.D = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        self.g = c.num_attention_heads // self.G
        self.mask = [[np.ones(self.G, bool), np.ones(self.F, bool)] for _ in range(self.L)]
        self.sumsq = [[0, 0] for _ in range(self.L)]
        self.last = [(b.self_attn.o_proj, b.mlp.down_proj) for b in model.model.layers]
        for layer in range(self.L):
            for kind in (GROUP, CHANNEL):
                self._hook(layer, kind)

    def _hook(self, layer, kind):
        def enter(_, args):
            self.sumsq[layer][kind] += (args[0].double() ** 2).sum((0, 1)).numpy()
            return (args[0] * torch.tensor(self.columns(layer, kind)),)

        def leave(_, args, out):  # an empty block is its residual path, without the output's bias
            return out if self.mask[layer][kind].any() else torch.zeros_like(out)

        self.last[layer][kind].register_forward_pre_hook(enter)
        self.last[layer][kind].register_forward_hook(leave)

    def columns(self, layer, kind):
        """The mask of a block's units, spread over the columns that enter its last matrix."""
        return np.repeat(self.mask[layer][kind], self.g * self.D if kind == GROUP else 1).astype(np.float32)

    def set_mask(self, units):
        groups = np.asarray(units[:self.L * self.G], bool).reshape(self.L, self.G)
        channels = np.asarray(units[self.L * self.G:self.L * (self.G + self.F)], bool).reshape(self.L, self.F)
        self.mask = [[groups[layer].copy(), channels[layer].copy()] for layer in range(self.L)]

    def losses(self, ids):
        """Mean negative log-likelihood of the next token, of each sequence."""
        with torch.no_grad():
            logp = torch.log_softmax(self.model(torch.tensor(ids)).logits[:, :-1].float(), -1)
        target = torch.tensor(ids)[:, 1:, None]
        return (-logp.gather(-1, target)[..., 0]).double().mean(1).numpy()

    def unit_metric(self, layer, kind, n_sequences):
        weight = self.last[layer][kind].weight.detach().double().abs().mean(0).numpy()  # over rows
        column = weight * np.sqrt(self.sumsq[layer][kind] / n_sequences)
        return column.reshape(self.G, self.g, self.D).sum(2).mean(1) if kind == GROUP else column

    def wanda_sp(self, ids, keep, kinds=(GROUP, CHANNEL)):
        """Metric of the units that the mask has at the start, in unit order. A layer is scored as it stands; then the
        lowest of its units of `kinds` go, for the layers after it. Also the least relative distance between a unit
        that stayed and one that went: how far rounding is from changing a mask."""
        values = {GROUP: [], CHANNEL: []}
        gap = np.inf
        for layer in range(self.L):
            self.sumsq = [[0, 0] for _ in range(self.L)]
            self.losses(ids)
            for kind in (GROUP, CHANNEL):
                there = np.flatnonzero(self.mask[layer][kind])
                metric = self.unit_metric(layer, kind, len(ids))[there]
                values[kind].append(metric)
                n_out = int(len(there) * (1 - keep[kind])) if kind in kinds else 0
                if n_out:
                    order = np.argsort(metric)
                    self.mask[layer][kind][there[order[:n_out]]] = False
                    gap = min(gap, metric[order[n_out]] / metric[order[n_out - 1]] - 1)
        return values[GROUP] + values[CHANNEL], gap


def initial(metric, keep, kinds, n_layers):
    """The probabilities of groups and channels; those of other kinds are 1."""
    s = []
    for i, values in enumerate(metric):
        kind = GROUP if i < n_layers else CHANNEL
        s.append(sigmap(values, keep[kind]) if kind in kinds and len(values) else np.ones(len(values)))
    return np.concatenate(s)

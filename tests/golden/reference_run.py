"""The whole of method `reference` on the tiny trained model, for tests/unit/test_reference_run.c.

Run by hand: python tests/golden/reference_run.py tests/data
Text, packing and deck as in Pollard; initial probabilities, masks, estimator, update and projection as paper_code.py and
this file say them; losses by transformers in f32. Writes tests/data/learn/reference_run.json.

A mask bit is `draw < s`. Where a draw falls close to s, the last bits of a loss decide it, and with it all that follows.
So the first seed is taken whose draws all keep MARGIN from s, about twenty times what s was seen to differ by between
the two implementations; the smallest distance is written into the file.
"""
import json
import sys
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from paper_code import CHANNEL, GROUP, STREAM_INIT, STREAM_MASK, STREAM_SHUFFLE, Pruned, initial, permutation, uniform
from transformers import AutoModelForCausalLM

K, W, EPSILON, BATCH = 2, 5, 1e-7, 8  # the paper's
RUN = dict(keep=0.7, seq_len=64, sequences=20, init_sequences=6, init_seq_len=96, steps=12, learning_rate=3.0)
MARGIN = 3e-5


def project(s, budget):
    """The nearest point with 0 <= s <= 1 and sum <= budget, v by bisection."""
    s = s.astype(np.float64)
    if np.clip(s, 0, 1).sum() <= budget:
        return np.clip(s, 0, 1)
    low, high = 0.0, s.max()
    for _ in range(200):
        v = (low + high) / 2
        low, high = (v, high) if np.clip(s - v, 0, 1).sum() > budget else (low, v)
    return np.clip(s - high, 0, 1)


class Deck:
    """Sequence after sequence of one permutation an epoch."""

    def __init__(self, seed, n):
        self.seed, self.n = seed, n

    def draw(self, first, count):
        return [permutation(self.seed, STREAM_SHUFFLE, p // self.n, self.n)[p % self.n] for p in range(first, first + count)]


def params_kept(p, mask):
    """Parameters of the decoder blocks' matrices."""
    group, channel = (2 * p.g + 2) * p.D * p.C, 3 * p.C
    groups, channels = mask[:p.L * p.G].sum(), mask[p.L * p.G:].sum()
    return (groups * group + channels * channel) / (p.L * (p.G * group + p.F * channel))


def run(p, ids, seed):
    """None where a draw comes too close to its probability."""
    length, n, keep = RUN["seq_len"], RUN["sequences"], RUN["keep"]
    text = np.array(ids[:n * length])
    sequences = text.reshape(n, length)
    chunks = text[:len(text) // RUN["init_seq_len"] * RUN["init_seq_len"]].reshape(-1, RUN["init_seq_len"])
    order = permutation(seed, STREAM_INIT, 0, len(chunks))[:RUN["init_sequences"]]
    n_units = p.L * (p.G + p.F)
    p.set_mask(np.ones(n_units))
    metric, gap = p.wanda_sp(chunks[order].tolist(), (keep, keep))
    if gap < 1e-4:
        return None
    s = initial(metric, (keep, keep), (GROUP, CHANNEL), p.L).astype(np.float32)
    doc = dict(seed=seed, initial=s.astype(float).tolist(), steps=[])

    owner = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RUN["learning_rate"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(owner, T_max=RUN["steps"])
    deck, baseline, margin, bound = Deck(seed, n), None, 1.0, [0, 0]
    for step in range(RUN["steps"]):
        batch = sequences[deck.draw(step * BATCH, BATCH)].tolist()
        masks, losses = [], []
        for k in range(K):
            draw = uniform(seed, STREAM_MASK, step, k, n_units)
            open_units = (s > 0) & (s < 1)  # at 0 and 1 there is nothing to decide
            margin = min(margin, np.abs(draw - s)[open_units].min())
            if margin < MARGIN:
                return None
            masks.append(draw < s)
            p.set_mask(masks[-1])
            losses.append(p.losses(batch).mean())
        mean = np.mean(losses)
        baseline = (1 - 1 / W) * (mean if baseline is None else baseline) + mean / W
        g = sum((loss - baseline) * (mask - s) / np.sqrt((s + EPSILON) * (1 - s + EPSILON))
                for mask, loss in zip(masks, losses)) / (K - 1)
        rate = schedule.get_last_lr()[0]
        s = (s - rate * g).astype(np.float32)
        for kind, units in enumerate((slice(0, p.L * p.G), slice(p.L * p.G, n_units))):
            bound[kind] += np.clip(s[units], 0, 1).sum() > keep * len(s[units])
            s[units] = project(s[units], keep * len(s[units]))
        owner.step()
        schedule.step()
        doc["steps"].append(dict(loss=mean, baseline=baseline, learning_rate=rate, grad_norm=float(np.linalg.norm(g)),
                                 kept=float(np.mean([params_kept(p, m) for m in masks]))))
    return dict(doc, margin=float(margin), steps_at_budget=[int(b) for b in bound], final=s.astype(float).tolist())


def main():
    root = Path(sys.argv[1])
    folder = root / "models/trained"
    p = Pruned(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    tok = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tok.encode((root / "text/calibration.txt").read_text()).ids  # with the tokenizer's own BOS: one document
    seed = 1
    while not (doc := run(p, ids, seed)):
        seed += 1
    moved = np.abs(np.array(doc["final"]) - np.array(doc["initial"]))
    final = np.array(doc["final"])
    print(f"seed {seed}, margin {doc['margin']:.2g}, s moved {moved.mean():.3f} on average, at most {moved.max():.3f}; "
          f"{(final == 0).sum()} at 0, {(final == 1).sum()} at 1; heads, channels at their budget in {doc['steps_at_budget']} steps")
    versions = dict(torch=torch.__version__, transformers=transformers.__version__, tokenizers=tokenizers.__version__)
    doc = dict(made_by="tests/golden/reference_run.py", **versions, settings=RUN, **doc)
    (root / "learn/reference_run.json").write_text(json.dumps(doc) + "\n")


main()

"""Metrics and initial probabilities of the tiny models, for tests/unit/test_score.c.

Run by hand: python tests/golden/wanda.py tests/data
Writes tests/data/score/NAME.json with the versions of torch and transformers in it. The method is in paper_code.py;
norms and draws are numpy's on the tensors as stored.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from paper_code import CHANNEL, GROUP, STREAM_INIT, Pruned, initial, normal
from transformers import AutoModelForCausalLM

MODELS = {"llama-gqa-tied": [(GROUP,), (CHANNEL,), (GROUP, CHANNEL)], "llama-linear-bias": [(GROUP, CHANNEL)],
          "trained": [(GROUP, CHANNEL)]}
KEEP = (0.5, 0.7)
SEQUENCES, LENGTH, SEED = 5, 24, 9


def load(root, name):
    return Pruned(AutoModelForCausalLM.from_pretrained(root / "models" / name, dtype=torch.float32))


def numbers(x):
    return [float("%.9g" % v) for v in np.concatenate([np.atleast_1d(v) for v in x])]


def scored(p, ids, kinds):
    metric, gap = p.wanda_sp(ids, KEEP, kinds)
    assert gap > 1e-4, f"a unit is {gap} from the edge of its mask: rounding could change it, take other ids"
    return dict(metric=numbers(metric), s=numbers([initial(metric, KEEP, kinds, p.L)]))


def magnitude(p):
    values = {GROUP: [], CHANNEL: []}
    for block in p.model.model.layers:
        a, m = block.self_attn, block.mlp
        square = [w.detach().double().numpy() ** 2 for w in (a.q_proj.weight, a.k_proj.weight, a.v_proj.weight,
                                                             a.o_proj.weight.T)]
        values[GROUP].append(np.sqrt(sum(w.reshape(p.G, -1).sum(1) for w in square)))
        square = [w.detach().double().numpy() ** 2 for w in (m.gate_proj.weight, m.up_proj.weight, m.down_proj.weight.T)]
        values[CHANNEL].append(np.sqrt(sum(w.sum(1) for w in square)))
    return values[GROUP] + values[CHANNEL]


def emptied(root, name, ids):
    """A model that lost its first MLP, its second attention and a third of its last MLP before."""
    p = load(root, name)
    p.mask[0][CHANNEL][:] = False
    p.mask[1][GROUP][:] = False
    p.mask[2][CHANNEL][::3] = False
    kept = np.concatenate([m[kind] for kind in (GROUP, CHANNEL) for m in p.mask])
    return dict(kept="".join("01"[int(b)] for b in kept), **scored(p, ids, (GROUP, CHANNEL)))


def main():
    root = Path(sys.argv[1])
    (root / "score").mkdir(exist_ok=True)
    for name, cases in MODELS.items():
        p = load(root, name)
        ids = np.random.default_rng(3).integers(0, p.model.config.vocab_size, (SEQUENCES, LENGTH)).tolist()
        n = p.L * (p.G + p.F)
        draws = normal(SEED, STREAM_INIT, n)
        groups, channels = np.split(draws, [p.L * p.G])
        sections = np.split(groups, p.L) + np.split(channels, p.L)
        doc = dict(made_by="tests/golden/wanda.py", torch=torch.__version__, transformers=transformers.__version__,
                   ids=ids, keep=KEEP,
                   cases=[dict(kinds=kinds, **scored(load(root, name), ids, kinds)) for kinds in cases],
                   magnitude=numbers(magnitude(p)),
                   random=dict(seed=SEED, metric=numbers([draws]),
                               s=numbers([initial(sections, KEEP, (GROUP, CHANNEL), p.L)])))
        if name == "llama-linear-bias":
            doc["emptied"] = emptied(root, name, ids)
        (root / "score" / f"{name}.json").write_text(json.dumps(doc) + "\n")


main()

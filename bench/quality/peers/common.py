"""What the drivers of other tools share: texts, a model to prune, masks as Pollard reads them, perplexity as Pollard has it.

The other tools' code is called where it was cloned, never copied. It expects a GPU and data sets from a hub; stand-ins
of both are here. Runs with the transformers of that code's time (4.37 does for all), on a model that `pollard export
--format hf` wrote.
"""
import json
import math
import resource
import sys
import time
import types

import torch


def load_texts(path, field="text"):
    """Documents of a JSONL file, or the rows of a WikiText file as the data set of that name has them."""
    with open(path, encoding="utf-8") as f:
        if path.endswith(".jsonl"):
            return [json.loads(line)[field] for line in f]
        return ["" if not line.strip() else line for line in f]


class Column(list):
    """A data set of one text column: rows by number, the column by name, and slices that have both."""

    def __getitem__(self, at):
        if at == "text":
            return list(self)
        if isinstance(at, slice):
            return {"text": list.__getitem__(self, at)}
        return {"text": list.__getitem__(self, at)}


def stand_in_for_datasets(path):
    """A module `datasets` whose every data set is the calibration text at path."""
    module = types.ModuleType("datasets")
    module.load_dataset = lambda *a, **k: Column(load_texts(path))
    module.load_from_disk = module.load_dataset
    module.__spec__ = types.SimpleNamespace(name="datasets")
    sys.modules["datasets"] = module


def without_gpu():
    """`.cuda()` and .to("cuda") stay where they are."""
    torch.Tensor.cuda = lambda self, *a, **k: self
    torch.nn.Module.cuda = lambda self, *a, **k: self


class Cost:
    """Wall time and peak memory from here on, with the passes that the caller names."""

    def __init__(self):
        self.start = time.time()

    def stop(self, sequences, length, learning=0):
        return {"forward_sequences": sequences, "tokens": sequences * length, "learning": learning,
                "seconds": time.time() - self.start, "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def write_mask(path, config, groups, channels, cost, note):
    """A Pollard mask of the kept KV groups and channels, lists of bool by layer, with what it cost."""
    n, head = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    group_size = config.hidden_size * head * 2 * (config.num_attention_heads // n + 1)
    channel_size = 3 * config.hidden_size

    def kept(flags):
        return [i for i, f in enumerate(flags) if f]

    def count(layers_groups, layers_channels):
        return sum(g * group_size for g in layers_groups) + sum(c * channel_size for c in layers_channels)

    layers = [{"heads": {"count": n, "kept": kept(g)}, "channels": {"count": config.intermediate_size, "kept": kept(c)},
               "attention_block": {"kept": True}, "mlp_block": {"kept": True}} for g, c in zip(groups, channels)]
    dense = count([n] * len(layers), [config.intermediate_size] * len(layers))
    left = count([len(x["heads"]["kept"]) for x in layers], [len(x["channels"]["kept"]) for x in layers])
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"format": "pollard-mask", "version": 1, "granularity": ["heads", "channels"], "layers": layers,
                   "params": {"dense": dense, "kept": left}, "cost": cost, "note": note}, f)
    print(f"{path}: {sum(len(x['heads']['kept']) for x in layers)} groups, kept {left / dense:.4f}")


def kept_units(model):
    """Kept groups and channels of a model in which the rows of what was removed are zero."""
    head = model.config.hidden_size // model.config.num_attention_heads

    def alive(weight, size):
        return [bool(x) for x in (weight.reshape(weight.shape[0] // size, -1) != 0).any(dim=1)]

    layers = model.model.layers
    return [alive(l.self_attn.v_proj.weight.data, head) for l in layers], [alive(l.mlp.up_proj.weight.data, 1) for l in layers]


@torch.no_grad()
def perplexity(model, tokenizer, path, length, limit):
    """As `pollard eval` without BOS: the text as one stream of tokens, chunks that do not overlap, the first token of each not scored."""
    rows = load_texts(path)
    ids = []
    for document in rows if path.endswith(".jsonl") else ["\n\n".join(rows)]:
        ids += tokenizer(document, add_special_tokens=False).input_ids
    chunks = len(ids) // length
    chunks = min(chunks, limit) if limit else chunks
    means, batch = [], max(1, 1024 // length)
    for at in range(0, chunks, batch):
        x = torch.tensor(ids[at * length:min(at + batch, chunks) * length]).reshape(-1, length)
        logits = model(x).logits[:, :-1].float()
        nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), x[:, 1:], reduction="none")
        means += nll.double().mean(dim=1).tolist()
    nll = sum(means) / len(means)
    spread = math.sqrt(sum((m - nll) ** 2 for m in means) / max(1, len(means) - 1) / len(means))
    return {"perplexity": math.exp(nll), "nll": nll, "standard_error": spread, "tokens": len(means) * (length - 1), "chunks": len(means)}


def judge(model, tokenizer, base, wikitext, c4, limits=(512, 32, 256)):
    """What the grid's row.py reads: BASE.{paper,standard,c4}.json."""
    for name, path, length, limit in (("paper", wikitext, 128, limits[0]), ("standard", wikitext, 2048, limits[1]),
                                      ("c4", c4, 128, limits[2])):
        result = perplexity(model, tokenizer, path, length, limit)
        with open(f"{base}.{name}.json", "w", encoding="utf-8") as f:
            json.dump(result, f)
        print(f"{base}.{name}: {result['perplexity']:.4f}")

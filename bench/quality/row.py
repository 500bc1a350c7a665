#!/usr/bin/env python3
"""A row of the grid, tab-separated, from the JSON that Pollard wrote.

row.py --header
row.py NAME COMMAND JUDGED FILE...
    JUDGED.{paper,standard,c4,tasks}.json are of `pollard eval --json`, those that there are; the FILEs are run.json of
    the run and of its repair, or a peer's mask.json with what it cost: together they are what the row cost.
"""
import json
import os
import re
import sys

TASKS = ["piqa", "openbookqa", "winogrande", "arc_easy", "boolq"]
TEXTS = ["paper", "standard", "c4"]
COLUMNS = (["row", "text", "keep", "mask", "seed", "repair", "share", "learning", "forward", "tokens", "seconds", "mib"]
           + TEXTS + ["nll", "se"] + TASKS + ["mean", "command"])
NAME = re.compile(r"(?P<text>c4|wikitext2)-(?P<keep>[0-9.]+)-(?P<mask>.+)-s(?P<seed>\d+)\+(?P<repair>\w+)$")


def load(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def cost_of(path):
    """Forward sequences by purpose, tokens of them, seconds, bytes, and the share of the decoder blocks that is left."""
    x = load(path)
    if "cost" in x:  # a peer's mask
        c = x["cost"]
        return {"learning": c.get("learning", 0), "forward": c["forward_sequences"], "tokens": c["tokens"], "seconds": c["seconds"],
                "bytes": c["peak_memory_bytes"], "share": x["params"]["kept"] / x["params"]["dense"]}
    if "results" in x:  # prune
        r, s = x["results"], x["settings"]
        length, init_length, left = s["text"]["seq_len"], s["init"].get("seq_len", 0), r["learnt"]
        dense = x["model"]["block_params"]
    else:  # repair of a mask that has no run here
        r, length, init_length = x["repair"]["results"], x["repair"]["data"]["seq_len"], 0
        left, dense = r["masked"], r["dense"]["block_params"]
    by = {k: v for k, v in r["forward_sequences"].items() if k != "evaluation"}
    init = by["initialisation"]
    return {"learning": by["learning"], "forward": sum(by.values()),
            "tokens": (sum(by.values()) - init) * length + init * (init_length or length), "seconds": r["seconds"],
            "bytes": r["peak_memory_bytes"], "share": left["block_params"] / dense}


def costs(paths):
    all_costs = [cost_of(p) for p in paths]
    if not all_costs:
        return {"share": "1.0000"}
    total = {k: sum(c[k] for c in all_costs) for k in ("learning", "forward", "tokens")}
    return total | {"share": f"{all_costs[-1]['share']:.4f}", "seconds": f"{sum(c['seconds'] for c in all_costs):.0f}",
                    "mib": f"{max(c['bytes'] for c in all_costs) / 2**20:.0f}"}


def judgements(base):
    out = {}
    for text in TEXTS:
        if os.path.exists(f"{base}.{text}.json"):
            x = load(f"{base}.{text}.json")
            out[text] = f"{x['perplexity']:.4g}"
            if text == "paper":
                out |= {"nll": f"{x['nll']:.4f}", "se": f"{x['standard_error']:.4f}"}
    if os.path.exists(f"{base}.tasks.json"):
        accuracy = {t["task"]: 100 * t["acc"] for t in load(f"{base}.tasks.json")["tasks"]}
        out |= {name: f"{accuracy[name]:.1f}" for name in TASKS}
        out["mean"] = f"{sum(accuracy[name] for name in TASKS) / len(TASKS):.1f}"
    return out


def main():
    if sys.argv[1:] == ["--header"]:
        print("\t".join(COLUMNS))
        return
    name, command, base, *files = sys.argv[1:]
    parts = NAME.match(name)
    row = {"row": name, "command": command} | (parts.groupdict() if parts else {}) | costs(files) | judgements(base)
    print("\t".join(str(row.get(c, "-")) for c in COLUMNS))


main()

"""Multiple-choice items of our own, and the log-likelihoods that transformers gives their choices.

Writes tests/data/tasks/{NAME.jsonl, golden.json} for the model tests/data/models/trained. Items come from small grammars; what they ask
has no sense beyond that. Prompts are put together here as lm-evaluation-harness's task files say, from the parts of an item and not from
the record in the file. Run by hand: python tests/golden/tasks.py tests/data
"""
import json
import random
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

NAMES = "Ada Ben Clara Dan Eva Finn Gita Hugo Ida Jon".split()
ANIMALS = "cat dog hen fox owl goat mouse duck".split()
PLACES = "garden river barn hill forest market bridge kitchen".split()
THINGS = "apple rope lantern basket kettle ribbon hammer letter".split()
ODD = ["caf\u00e9", "na\u00efve owl", "\u6a4b", "r\u00edo \u2014 river"]
POSITIONS = 256


def story(r, n):
    return " ".join(f"{r.choice(NAMES)} found a {r.choice(THINGS)} in the {r.choice(PLACES)} and gave it to {r.choice(NAMES)}."
                    for _ in range(n))


def choices(r, words, n):
    out = r.sample(words, n)
    if r.random() < 0.2:
        out[r.randrange(n)] = r.choice(ODD)
    return out


# Each gives the record as it stands in the file, and the contexts and the continuations of its choices.
def piqa(r):
    goal = f"bring the {r.choice(ANIMALS)} to the {r.choice(PLACES)}" + r.choice(["", "?", " ", "  "])
    c = [f"{r.choice(NAMES)} has the {x}." for x in choices(r, THINGS, 2)]
    prompt = f"Question: {goal.rstrip()}\nAnswer:"
    return {"choices": c, "query": f"Question: {goal}\n"}, [prompt] * 2, c


def openbookqa(r):
    stem = f"The {r.choice(ANIMALS)} ran to the" + r.choice(["", " ", "\n"])
    c = choices(r, PLACES, 4)
    return {"query": stem, "choices": c}, [stem] * 4, c


def winogrande(r):
    a, b = r.sample(NAMES, 2)
    start = f"{a} asked {b} for the {r.choice(THINGS)} because "
    end = r.choice(["was hungry.", "ran to the hill.", "."])
    c = [start + a, start + b + r.choice(["", " and the owl"])]
    return {"context_options": c, "continuation": end}, c, [end] * 2


def arc_easy(r):
    q = f"Where did {r.choice(NAMES)} find the {r.choice(THINGS)}?"
    c = choices(r, PLACES, 4)
    return {"choices": c, "query": f"Question: {q}"}, [f"Question: {q}\nAnswer:"] * 4, c


def boolq(r):
    passage, q = story(r, r.choice([2, 4, 30])), f"is the {r.choice(THINGS)} in the {r.choice(PLACES)}"
    prompt = f"{passage}\nQuestion: {q}?\nAnswer:"
    return {"query": f"Passage: {passage}\nQuestion: {q}?", "choices": ["no", "yes"]}, [prompt] * 2, ["no", "yes"]


def plain(r):
    q = r.choice(["", "", "The", "The cat saw Ada, and  "])
    c = choices(r, ANIMALS, 3)
    return {"query": q, "choices": c}, [q] * 3, c


def encode(tok, context, continuation):
    """(ids, how many of them are context)"""
    kept = context.rstrip()
    whole = context + continuation
    if not kept:
        return [tok.bos_token_id] + tok(whole, add_special_tokens=False)["input_ids"], 1
    ids, n = tok(whole)["input_ids"], len(tok(kept)["input_ids"])
    return ids, min(n, len(ids) - 1)


@torch.no_grad()
def loglik(model, tok, context, choice):
    ids, n = encode(tok, context, " " + choice)
    cut = max(0, len(ids) - 1 - POSITIONS)
    ids, n = ids[cut:], n - cut
    logits = model(torch.tensor([ids[:-1]])).logits[0].double().log_softmax(-1)
    return sum(logits[i - 1, ids[i]].item() for i in range(n, len(ids))), cut > 0, len(ids) - n


def main():
    root = Path(sys.argv[1])
    tok = AutoTokenizer.from_pretrained(root / "models/trained")
    model = AutoModelForCausalLM.from_pretrained(root / "models/trained", dtype=torch.float32).double().eval()
    golden = {"model": "trained", "tasks": {}}
    for make in (piqa, openbookqa, winogrande, arc_easy, boolq, plain):
        r = random.Random(make.__name__)
        rows = []
        with open(root / f"tasks/{make.__name__}.jsonl", "w") as out:
            for _ in range(24):
                record, contexts, continuations = make(r)
                record["gold"] = r.randrange(len(contexts))
                out.write(json.dumps(record) + "\n")
                scored = [loglik(model, tok, *x) for x in zip(contexts, continuations)]
                rows.append({"loglik": [round(x[0], 7) for x in scored], "cut": sum(x[1] for x in scored), "gold": record["gold"],
                             "tokens": [x[2] for x in scored],
                             "length": [len(c) for c in record.get("context_options", record.get("choices"))]})
        acc = [row["loglik"].index(max(row["loglik"])) == row["gold"] for row in rows]
        per = [[a / b for a, b in zip(row["loglik"], row["length"])] for row in rows]
        norm = [x.index(max(x)) == row["gold"] for x, row in zip(per, rows)]
        golden["tasks"][make.__name__] = {"items": rows, "acc": sum(acc) / len(acc), "acc_norm": sum(norm) / len(norm)}
    with open(root / "tasks/golden.json", "w") as out:
        json.dump(golden, out)
        out.write("\n")


main()

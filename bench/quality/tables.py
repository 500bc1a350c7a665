#!/usr/bin/env python3
"""The tables of docs/results/quality.md, in Markdown, from what the grids wrote.

tables.py OUT/smollm2.tsv|OUT/stories.tsv
"""
import csv
import itertools
import sys

HEADS = {
    "mask": "mask", "seed": "seed", "repair": "repair", "share": "kept", "learning": "learnt with", "forward": "all passes",
    "tokens": "tokens", "seconds": "seconds", "mib": "MiB", "paper": "WikiText-2, 128", "standard": "WikiText-2, 2,048",
    "c4": "C4, 128", "nll": "NLL, 128", "se": "+-", "piqa": "PIQA", "openbookqa": "OBQA", "winogrande": "WinoG", "arc_easy": "ARC-e",
    "boolq": "BoolQ", "mean": "mean",
}
COUNTS = {"learning", "forward", "tokens", "seconds", "mib"}
TITLES = {"c4": "calibrated on C4", "wikitext2": "calibrated on WikiText-2 (validation)", "-": "dense"}
STORIES = ["model", "keep", "mask", "seed", "A", "B", "A bare", "B bare", "learning", "seconds"]


def read(path):
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))


def cell(column, value):
    if column in COUNTS and value.isdigit():
        return f"{int(value):,}"
    return value


def table(columns, heads, rows):
    print("| " + " | ".join(heads) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(cell(c, row[c]) for c in columns) + " |")
    print()


def best_first(rows):
    return sorted(rows, key=lambda r: float(r["paper"]) if r["paper"] not in ("-", "inf") else float("inf"))


def smollm2(rows):
    dense = [r | {"mask": "dense"} for r in rows if r["row"] == "dense"]
    rows = [r for r in rows if r["row"] != "dense"]
    key = lambda r: (r["text"], -float(r["keep"]))
    for (text, keep), group in itertools.groupby(sorted(rows, key=key), key):
        print(f"### Keep {-keep:g}, {TITLES[text]}\n")
        group = list(group)
        table(list(HEADS), list(HEADS.values()), dense + best_first(group))
        print("\n".join(f"- `{r['row']}`: `{r['command']}`" for r in group) + "\n")


def main():
    rows = read(sys.argv[1])
    if rows and "paper" in rows[0]:
        smollm2(rows)
    else:
        table(STORIES, STORIES, rows)


main()

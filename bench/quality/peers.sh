#!/usr/bin/env bash
# Masks of other tools by their own code, for bench/quality/smollm2.sh to repair and judge: OUT/peers/TEXT-KEEP-TOOL-sSEED.json, and
# what they leave, judged as it is where it is more than a mask: OUT/judged/*+own.*.json. Masks that are there are skipped.
#   bench/quality/peers.sh PYTHON CLONES MODEL DATA OUT [FILTER]
# PYTHON has torch, transformers 4.37 and safetensors; CLONES holds FLAP, LLM-Pruner and backprop-free_LLM_pruning; MODEL is SmolLM2-135M as
# `pollard export --format hf` writes it, with the merges of its tokenizer.json as strings for a library of that age; OUT is the grid's,
# which has split the texts.
set -euo pipefail
python=$1 clones=$2 model=$3 data=$4 out=$5 filter=${6:-.}
drivers=$(dirname "$0")/peers
mkdir -p "$out/peers" "$out/judged"

text_of() { case $1 in c4) echo "$out/c4.jsonl" ;; wikitext2) echo "$out/wikitext2.txt" ;; esac; }

peer() { # text, keep, tool, seed, judged, driver and its options; {mask} stands for the file
  local name=$1-$2-$3-s$4 judge=()
  [[ $name =~ $filter ]] && [ ! -s "$out/peers/$name.json" ] || return 0
  [ "$5" = no ] || judge=(--judge "$out/judged/$name+own" "$data/text/wikitext2/wiki.test.raw" "$out/c4-judge.jsonl")
  PYTHONDONTWRITEBYTECODE=1 "$python" "$drivers/$6" "${@:7}" --seed "$4" --mask "$out/peers/$name.json" "${judge[@]}"
}

removed() { awk -v k="$1" 'BEGIN { print 1 - k }'; }

# LLM-Pruner leaves six of thirty blocks whole and removes whole groups: ratios that come closest to each share (0.803, 0.700, 0.533).
pruner_ratio() { case $1 in 0.8) echo 0.328 ;; 0.7) echo 0.3889 ;; 0.5) echo 0.6666 ;; esac; }

learnt() { # text, keep, passes, seed
  peer "$1" "$2" "peer-reference-0.002-$3" "$4" no reference.py "$clones/backprop-free_LLM_pruning" "$model" "$(text_of "$1")" "$2" "$3" 0.002
}

for text in c4 wikitext2; do
  for keep in 0.7 0.5 0.8; do
    peer $text $keep peer-wanda-sp 0 no flap.py "$clones/FLAP" "$model" "$(text_of $text)" wanda_sp "$(removed $keep)"
    peer $text $keep peer-llm-pruner 42 no llm_pruner.py "$clones/LLM-Pruner" "$model" "$(text_of $text)" "$(pruner_ratio $keep)"
    peer $text $keep peer-flap 0 yes flap.py "$clones/FLAP" "$model" "$(text_of $text)" flap "$(removed $keep)"
  done
  # Of three groups a layer 0.3 is none and a third is one: this keeps 0.667, the above 0.775.
  peer $text 0.7 peer-wanda-sp-third 0 no flap.py "$clones/FLAP" "$model" "$(text_of $text)" wanda_sp 0.3334
  learnt $text 0.7 1000 42
done
learnt c4 0.7 10000 42

#!/usr/bin/env bash
# Two small models, held-out loss by method, seed and passes: masks alone and allocations learnt in the repaired model, on stories260K; what 300
# passes find on tinystories-656K.
#   bench/quality/stories260k.sh POLLARD DATA OUT [FILTER]
# DATA holds models/{stories260K/stories260K.gguf,tinystories-656K/config.json,...} and text/tinystories/*.txt. Rows go to OUT/stories.tsv as
# they are done; those that are there are skipped. FILTER is a regular expression of row names. Needs jq.
# Sequences: 128 tokens, the first BOS, of stories that each begin with BOS; the validation text has no marks between stories, so it is cut
# before each "Once upon a time". Losses are mean NLL: A of its first 256 sequences, B of the 768 behind them, which decided nothing.
set -euo pipefail
pollard=$1 data=$2 out=$3 filter=${4:-.}
train=$data/text/tinystories/tinystories-10k-1.4M.txt
table=$out/stories.tsv
cut=(--separator '<|endoftext|>' --bos both)
mkdir -p "$out"
[ -s "$out/val.txt" ] || sed 's/Once upon a time/<|endoftext|>&/g' "$data/text/tinystories/tinystories-val-794K.txt" > "$out/val.txt"
[ -s "$table" ] || printf 'row\tmodel\tkeep\tmask\tseed\tA\tB\tA bare\tB bare\tlearning\tseconds\tcommand\n' > "$table"

model() { case $1 in stories260K) echo "$data/models/$1/$1.gguf" ;; *) echo "$data/models/$1" ;; esac; }

loss() { # sequences, model or run, options of eval...
  "$pollard" eval "${@:2}" --text "$out/val.txt" "${cut[@]}" --limit "$1" --threads 1 --json --quiet | jq .nll
}

# A and B, tab-separated.
losses() {
  local first all
  first=$(loss 256 "$@") && all=$(loss 1024 "$@") &&
    jq -nr "[$first, (1024 * $all - 256 * $first) / 768] | map(. * 10000 | round / 10000 | tostring) | join(\"\t\")"
}

wanted() { [[ $1 =~ $filter ]] && ! cut -f 1 "$table" | grep -qxF -- "$1"; }

dense() { # model
  local both
  wanted "$1" || return 0
  both=$(losses "$(model "$1")")
  printf '%s\t%s\t1\tdense\t-\t%s\t-\t-\t-\t-\teval MODEL\n' "$1" "$1" "$both" >> "$table"
}

row() { # model, keep, mask, seed, options of prune...
  local name=$1-$2-$3-s$4 run=$out/$1-$2-$3-s$4 repaired=$'-\t-' bare
  wanted "$name" || return 0
  [ -f "$run/mask.json" ] || "$pollard" prune "$(model "$1")" --data "$train" "${cut[@]}" --keep "$2" --seed "$4" "${@:5}" \
    --threads 1 --out "$run" --resume --quiet
  bare=$(losses "$run" --bare)
  [ ! -f "$run/repaired.safetensors" ] || repaired=$(losses "$run")
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$1" "$2" "$3" "$4" "$repaired" "$bare" \
    "$(jq .results.forward_sequences.learning "$run/run.json")" "$(jq '.results.seconds | round' "$run/run.json")" \
    "prune MODEL --data TRAIN --keep $2 --seed $4 ${*:5}" >> "$table"
}

dense stories260K
dense tinystories-656K
for keep in 0.7 0.5; do
  row stories260K $keep obs 42 --passes 0
  row stories260K $keep wanda-sp 42 --passes 0 --init wanda-sp
  for seed in 42 1 2; do
    for passes in 3000 1000 300; do row stories260K $keep allocation-$passes $seed --passes $passes; done
    # With as many passes as the default learns blocks and single units with, behind the allocation: here the allocation alone, too.
    row stories260K $keep allocation-only-3000 $seed --passes 3000 --stages allocation
  done
done
# The budget of other figures keeps six of eight groups, N - floor(N (1 - keep)); here it is floor(keep N).
row tinystories-656K 0.7 obs 42 --passes 0 --keep-heads 0.75
for seed in 42 1 2; do row tinystories-656K 0.7 allocation-300 $seed --passes 300 --keep-heads 0.75; done
for seed in 42 1 2; do
  row stories260K 0.7 units-3000 $seed --method units --passes 3000 --no-repair
  row stories260K 0.7 units-10000 $seed --method units --passes 10000 --no-repair
  # The model was made for 512 positions, not for the 1,024 that the reference begins with.
  row stories260K 0.7 reference-10000 $seed --method reference --passes 10000 --init-seq-len 128 --no-repair
done

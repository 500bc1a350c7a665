#!/usr/bin/env bash
# Masks learnt on stories260K at keep 0.7: held-out loss of the hard mask by method, seed and passes.
#   bench/quality/stories260k.sh POLLARD DATA OUT
# DATA holds models/stories260K/stories260K.gguf and text/tinystories/{tinystories-10k-1.4M,tinystories-val-794K}.txt.
# Sequences: 128 tokens, the first BOS, of stories that each begin with BOS; the validation text has no marks between stories, so it is cut
# before each "Once upon a time". Loss: mean NLL of its first 256 sequences.
set -euo pipefail
pollard=$1 data=$2 out=$3
model=$data/models/stories260K/stories260K.gguf
train=$data/text/tinystories/tinystories-10k-1.4M.txt
mkdir -p "$out"
sed 's/Once upon a time/<|endoftext|>&/g' "$data/text/tinystories/tinystories-val-794K.txt" > "$out/val.txt"
cut=(--separator '<|endoftext|>' --bos both)

loss() { "$pollard" eval "$1" --text "$out/val.txt" "${cut[@]}" --limit 256 --threads 1 "${@:2}" --json | sed -n 's/^ *"nll": \([0-9.]*\).*/\1/p'; }

printf '%-34s %8s %8s %8s\n' run seed passes NLL
printf '%-34s %8s %8s %8s\n' dense - - "$(loss "$model")"
one() { # name seed passes options...
  local run="$out/$1-$2-$3"
  [ -f "$run/mask.json" ] || "$pollard" prune "$model" --data "$train" "${cut[@]}" --keep 0.7 --passes "$3" --seed "$2" --threads 1 --out "$run" --resume --quiet "${@:4}"
  printf '%-34s %8s %8s %8s\n' "$1" "$2" "$3" "$(loss "$run")"
}
one initial 42 0
for seed in 42 1 2; do
  one units "$seed" 3000
  one units "$seed" 10000
  one reference "$seed" 10000 --method reference --init-seq-len 128 # the model was made for 512 positions, not 1,024
done

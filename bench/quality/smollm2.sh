#!/usr/bin/env bash
# SmolLM2-135M at keep 0.8, masks only: perplexity on the WikiText-2 test text (protocol paper) of the dense model, of the initial mask and of masks
# learnt on C4 with 1,000, 3,000 and 10,000 forward sequences. Takes hours on two cores; an interrupted run is taken up again.
#   bench/quality/smollm2.sh POLLARD MODEL C4 WIKITEXT OUT [THREADS]
set -euo pipefail
pollard=$1 model=$2 c4=$3 wikitext=$4 out=$5 threads=${6:-0}
mkdir -p "$out"

value() { sed -n "s/^ *\"$1\": \([0-9.e+-]*\),*$/\1/p" "$2" | tail -n 1; }
row() { # name, model or run, passes, seconds
  [ -s "$out/$1.json" ] || "$pollard" eval "$2" --text "$wikitext" --threads "$threads" --json > "$out/$1.json"
  printf '%-12s %8s %10s %12.2f %9.4f %9.4f\n' "$1" "$3" "$4" "$(value perplexity "$out/$1.json")" "$(value nll "$out/$1.json")" "$(value standard_error "$out/$1.json")"
}

printf '%-12s %8s %10s %12s %9s %9s\n' mask passes seconds perplexity NLL +-
row dense "$model" - -
for passes in 0 1000 3000 10000; do
  run=$out/run-$passes
  [ -f "$run/mask.json" ] || "$pollard" prune "$model" --data "$c4" --keep 0.8 --passes $passes --threads "$threads" --out "$run" --resume --quiet
  if [ $passes = 0 ]; then name=initial; else name=learnt-$passes; fi
  row $name "$run" $passes "$(value seconds "$run/run.json" | cut -d. -f1)"
done

#!/usr/bin/env bash
# The grid of docs/results/quality.md: masks of SmolLM2-135M by method, text, keep ratio and seed, each judged bare and repaired.
#   bench/quality/smollm2.sh POLLARD MODEL DATA OUT [FILTER] [THREADS]
# DATA holds text/{c4/c4-sample-900docs.jsonl,wikitext2/{wt2-tokens-valid.txt,wiki.test.raw}} and tasks/*.jsonl. Rows go to OUT/smollm2.tsv as
# they are done; rows that are there are skipped and interrupted runs taken up again, so the grid can be done in pieces. FILTER is a regular
# expression of row names, TEXT-KEEP-MASK-sSEED+REPAIR: '^c4-0.7-' or '-(obs|allocation-1000)-s42\+ridge$'; rows come in the order of `grid`.
# Masks are learnt bare, once, in OUT/runs; `repair` puts each repaired form beside them. One process at a time for an OUT.
# WHOLE=1 judges on the whole of each text, in OUT/smollm2-whole.tsv, where else its first chunks must do.
set -euo pipefail
pollard=$1 model=$2 data=$3 out=$4 filter=${5:-.} threads=${6:-0}
here=$(dirname "$0")
tasks=$data/tasks
part=(paper:512 standard:32 c4:256) table=$out/smollm2.tsv judged=$out/judged
if [ -n "${WHOLE:-}" ]; then part=(paper:0 standard:0 c4:0) table=$out/smollm2-whole.tsv judged=$out/judged-whole; fi
items=200
metrics=(obs flap wanda-sp magnitude random)
rates=(0.002 0.01 0.03) # of `reference`: its own, and two more
mkdir -p "$out/runs" "$judged"

# Documents that judge are never calibrated on.
split_texts() {
  local c4=$data/text/c4/c4-sample-900docs.jsonl
  [ -s "$out/c4.jsonl" ] || head -n 720 "$c4" > "$out/c4.jsonl"
  [ -s "$out/c4-judge.jsonl" ] || tail -n 180 "$c4" > "$out/c4-judge.jsonl"
  [ -s "$out/wikitext2.txt" ] || cp "$data/text/wikitext2/wt2-tokens-valid.txt" "$out/wikitext2.txt"
}

text_of() { case $1 in c4) echo "$out/c4.jsonl" ;; wikitext2) echo "$out/wikitext2.txt" ;; esac; }

keep_json() { # file, command...: its output, whole or absent
  [ -s "$1" ] || { "${@:2}" > "$1.part" && mv "$1.part" "$1"; }
}

judge() { # row, model or run, options of eval...
  local base=$judged/$1 test=$data/text/wikitext2/wiki.test.raw eval=("$pollard" eval "$2" "${@:3}" --threads "$threads" --json --quiet) p
  for p in "${part[@]}"; do
    case $p in
      paper:*) keep_json "$base.paper.json" "${eval[@]}" --text "$test" --limit "${p#*:}" ;;
      standard:*) keep_json "$base.standard.json" "${eval[@]}" --text "$test" --protocol standard --limit "${p#*:}" ;;
      c4:*) keep_json "$base.c4.json" "${eval[@]}" --text "$out/c4-judge.jsonl" --limit "${p#*:}" ;;
    esac || return
  done
  keep_json "$base.tasks.json" "${eval[@]}" --limit $items --task piqa="$tasks/piqa.jsonl" \
    openbookqa="$tasks/openbook_qa.jsonl" winogrande="$tasks/winogrande.jsonl" arc_easy="$tasks/arc_easy.jsonl" boolq="$tasks/boolq.jsonl"
}

wanted() { [[ $1 =~ $filter ]] && ! { [ -f "$table" ] && cut -f 1 "$table" | grep -qxF -- "$1"; }; }

record() { # row, command, files that say what the row cost...
  [ -f "$table" ] || python3 "$here/row.py" --header > "$table"
  python3 "$here/row.py" "$1" "$2" "$judged/$1" "${@:3}" >> "$table"
  echo "$1"
}

learn() { # name, text, options of prune...
  [ -f "$out/runs/$1/mask.json" ] ||
    "$pollard" prune "$model" --data "$(text_of "$2")" "${@:3}" --threads "$threads" --out "$out/runs/$1" --resume --quiet
}

mend() { # mask, text, kind of repair, folder
  "$pollard" repair --mask "$1" --model "$model" --data "$(text_of "$2")" --repair "$3" --threads "$threads" --out "$4" \
    --resume --quiet
}

# A row that fails is told and left for another call; an interrupt ends the grid.
attempt() { "${@:2}" || { local rc=$?; [ $rc != 130 ] || exit 130; echo "$1: failed ($rc)" >&2; }; }

mended_row() { # row, name, text, repair, options of prune...
  local row=$1 run=$out/runs/$2 command="prune MODEL --data $3 ${*:5}"
  learn "$2" "$3" "${@:5}" || return
  if [ "$4" = none ]; then
    judge "$row" "$run" && record "$row" "$command" "$run/run.json"
  else
    mend "$run/mask.json" "$3" "$4" "$run+$4" && judge "$row" "$run+$4" &&
      record "$row" "$command; repair --mask RUN/mask.json --data $3 --repair $4" "$run/run.json" "$run+$4/run.json"
  fi
}

masks() { # text, keep, mask, seed, repairs, options of prune...
  local name=$1-$2-$3-s$4 repair
  for repair in $5; do
    wanted "$name+$repair" || continue
    attempt "$name+$repair" mended_row "$name+$repair" "$name" "$1" "$repair" --keep "$2" --seed "$4" --no-repair "${@:6}"
  done
}

repaired_row() { # row, name, text, options of eval, options of prune...
  learn "$2" "$3" "${@:5}" && judge "$1" "$out/runs/$2" ${4:+"$4"} &&
    record "$1" "prune MODEL --data $3 ${*:5}" "$out/runs/$2/run.json"
}

allocation() { # text, keep, mask, seed, options of prune...: learnt in the repaired model, repaired by the run itself
  local name=$1-$2-$3-s$4
  ! wanted "$name+ridge" || attempt "$name+ridge" repaired_row "$name+ridge" "$name" "$1" "" --keep "$2" --seed "$4" "${@:5}"
  ! wanted "$name+none" || attempt "$name+none" repaired_row "$name+none" "$name" "$1" --bare --keep "$2" --seed "$4" "${@:5}"
}

peer_row() { # row, name, mask file, text, options of eval
  mend "$3" "$4" ridge "$out/runs/$2+ridge" && judge "$1" "$out/runs/$2+ridge" ${5:+"$5"} || return
  if [ -n "$5" ]; then
    record "$1" "peers.sh" "$3"
  else
    record "$1" "peers.sh; repair --mask FILE --data $4 --repair ridge" "$3" "$out/runs/$2+ridge/run.json"
  fi
}

peers() { # text, keep: masks of other tools that peers.sh left in OUT/peers/TEXT-KEEP-TOOL-sSEED.json
  local file name
  for file in "$out/peers/$1-$2"-*.json; do
    [ -f "$file" ] || continue
    name=$(basename "$file" .json)
    ! wanted "$name+none" || attempt "$name+none" peer_row "$name+none" "$name" "$file" "$1" --bare
    ! wanted "$name+ridge" || attempt "$name+ridge" peer_row "$name+ridge" "$name" "$file" "$1" ""
    # With weights of its own, which `peers.sh` judged.
    ! { [ -s "$judged/$name+own.c4.json" ] && wanted "$name+own"; } || record "$name+own" "peers.sh" "$file"
  done
}

dense() { ! wanted dense || { attempt dense judge dense "$model" && record dense "eval MODEL"; }; }

metric_masks() { # text, keep, repairs, metrics...
  local metric
  for metric in "${@:4}"; do masks "$1" "$2" "$metric" 42 "$3" --passes 0 --init "$metric"; done
}

references() { # text, keep, passes, seed, rates...
  local rate
  for rate in "${@:5}"; do
    masks "$1" "$2" "reference-$rate-$3" "$4" "none ridge" --method reference --passes "$3" --lr "$rate"
  done
}

units() { masks "$1" "$2" "units-$3" "$4" "none ridge" --method units --passes "$3"; } # text, keep, passes, seed

allocations() { # text, keep, seed, passes...
  local passes
  for passes in "${@:4}"; do allocation "$1" "$2" "allocation-$passes" "$3" --passes "$passes"; done
}

# First what the others are compared with, then the rest of keep 0.7, then the second seed.
grid() {
  local text keep passes
  dense
  allocation c4 0.7 obs-6GiB 42 --passes 0 --memory-limit 6GiB # statistics, sweep and both ridges, for their time and memory
  for keep in 0.7 0.5 0.8; do
    allocations c4 $keep 42 1000 300
    metric_masks c4 $keep "none ridge" obs flap wanda-sp
    peers c4 $keep
    references c4 $keep 10000 42 "${rates[@]}"
    units c4 $keep 10000 42
  done
  for text in c4 wikitext2; do
    allocations $text 0.7 42 1000 300 3000
    metric_masks $text 0.7 "none bias ridge" "${metrics[@]}"
    for passes in 1000 3000 10000; do
      units $text 0.7 $passes 42
      references $text 0.7 $passes 42 "${rates[@]}"
    done
    peers $text 0.7
  done
  for keep in 0.5 0.8; do
    allocations c4 $keep 42 3000
    allocations wikitext2 $keep 42 1000
    metric_masks wikitext2 $keep "none ridge" obs flap wanda-sp
    peers wikitext2 $keep
  done
  for text in c4 wikitext2; do
    allocations $text 0.7 1 300 1000 3000
    for passes in 1000 3000 10000; do
      units $text 0.7 $passes 1
      references $text 0.7 $passes 1 "${rates[@]}"
    done
  done
}

main() { # read whole before it runs: an edit does not disturb a grid under way
  split_texts
  grid
}

main

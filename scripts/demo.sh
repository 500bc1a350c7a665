#!/usr/bin/env bash
# Prunes a real model from end to end: installs what is missing, builds, fetches SmolLM2-135M-Instruct and a book, learns how much of each
# layer to remove, repairs the weights that stay, and writes the pruned model out.
#
#   scripts/demo.sh [--long]
#
#   --long  many more forward passes, and more text for the repair; interrupted with Ctrl-C, the same command goes on where it stopped
#
# Downloads are kept in $POLLARD_CACHE_DIR (~/.cache/pollard if not set); a second run downloads nothing. Results are in build/demo.
. "$(dirname "$0")/lib.sh"
. "$root/scripts/smollm2.sh"

keep=0.8
passes=300
sequences=160 # for the repair: 13 tokens for each column of the widest matrix
run=$root/build/demo/run
case ${1:-} in
--long)
    passes=3000
    sequences=512
    run=$root/build/demo/run-long
    ;;
'') ;;
*) die "unknown option '$1' (--long)" ;;
esac

# --- the text: a book about running Debian, one file a page ----------------------------------------------------------------------
book=debian-handbook
calibration=$cache/$book-calibration.txt # what the masks are learnt on
held_out=$cache/$book-held-out.txt       # every tenth page, never learnt from: what the perplexity is measured on

fetch_text() {
    local pages calibration_pages=() held_out_pages=() i
    if [ -s "$calibration" ] && [ -s "$held_out" ]; then return; fi
    say "downloading the text: Debian package $book, 35 MB"
    apt-cache show "$book" >/dev/null 2>&1 || apt_update
    (cd "$work" && retry 3 apt-get download -qq "$book" 2>"$work/apt.log") || die "apt-get download $book: $(tail -n 1 "$work/apt.log")"
    mkdir "$work/book"
    dpkg-deb --fsys-tarfile "$work/$book"_*.deb | tar -x -C "$work/book" --wildcards '*/html/en-US/*.html'
    mapfile -t pages < <(find "$work/book" -name '*.html' ! -name index.html | LC_ALL=C sort)
    [ ${#pages[@]} -ge 50 ] || die "package $book has ${#pages[@]} English pages, more were expected"
    for i in "${!pages[@]}"; do
        if [ $((i % 10)) -eq 5 ]; then held_out_pages+=("${pages[i]}"); else calibration_pages+=("${pages[i]}"); fi
    done
    python3 "$root/scripts/html-to-text.py" "${held_out_pages[@]}" >"$work/held-out.txt"
    python3 "$root/scripts/html-to-text.py" "${calibration_pages[@]}" >"$work/calibration.txt"
    mv "$work/held-out.txt" "$held_out"
    mv "$work/calibration.txt" "$calibration"
}

bash "$root/scripts/install-deps.sh" --demo
build release
pollard=$root/build/release/bin/pollard

mkdir -p "$cache"
work=$(mktemp -d "$cache/part-XXXXXX")
trap 'rm -rf "$work"' EXIT
fetch_model
fetch_text
say "model:       $model"
say "calibration: $calibration ($(wc -w <"$calibration") words)"
say "held out:    $held_out ($(wc -w <"$held_out") words)"

# --- prune, then write the result in both forms ----------------------------------------------------------------------------------
options=()
if [ "${1:-}" = --long ]; then
    options+=(--resume) # starts a run that is not there
    if [ -f "$run/run.json" ]; then say "going on with $run (remove it to start anew)"; fi
else
    rm -rf "$run"
fi
mkdir -p "$(dirname "$run")"
say "pruning: $keep of the heads and of the channels stay; $passes forward passes to learn how many in which layer"
"$pollard" prune "$model" --data "$calibration" --keep $keep --passes $passes --repair-sequences $sequences --eval "$held_out" --out "$run" "${options[@]}"

for format in zeros hf; do
    rm -rf "$run-$format"
    "$pollard" export "$run" --format $format --out "$run-$format"
done

cat <<END

The run:            $run (run.json, mask.json, repaired.safetensors, log.jsonl)
The pruned model:   $run-zeros (same shapes, pruned weights zero: loads in Hugging Face transformers)
                    $run-hf (pruned weights gone: $(du -sh "$run-hf" | cut -f 1) instead of $(du -sh "$run-zeros" | cut -f 1); for Pollard itself)
Look at it:         $pollard inspect $run
Measure it again:   $pollard eval $run-hf --text $held_out
END

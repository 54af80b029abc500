#!/usr/bin/env bash
# Everything that waits for a GPU, in one command and in less than eight minutes:
#
#     bench/gpu.sh                # on the GPU: writes its table into docs/benchmarks.md
#     bench/gpu.sh --dry-run      # small, on the CPU of this machine: writes nothing, claims nothing
#
# Each step has a limit in seconds; one that fails or runs out of time is said in the table, and the others go on.
set -u
cd "$(dirname "$0")/.."
python="${PYTHON:-python}"
log="${LOG:-$(mktemp -d)}"
mkdir -p "$log"
dry_run="" more=1
images=20000 epochs=90 queries=8192
if [ "${1:-}" = "--dry-run" ]; then
    dry_run="--dry-run" more=4 images=16 epochs=1 queries=256
    export CUDA_VISIBLE_DEVICES=""
elif ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "error: torch finds no GPU here; --dry-run runs the same steps, small, on the CPU" >&2
    exit 5
fi

step() { # name, limit in seconds, command …
    local name="$1" limit="$(($2 * more))" begun="$SECONDS" code=0
    shift 2
    echo "$name: at most $limit s" >&2
    timeout --signal=INT --kill-after=10 "$limit" "$@" >"$log/$name.out" 2>"$log/$name.err" || code=$?
    echo "$code $((SECONDS - begun)) $*" >"$log/$name.step"
    [ "$code" = 0 ] || tail -n 5 "$log/$name.out" "$log/$name.err" >&2
}

step tests 110 "$python" -m pytest -q -p no:cacheprovider tests/trunks/test_hardware.py tests/trunks/test_nvjpeg.py \
    tests/trunks/test_trunk.py tests/trunks/test_engines.py tests/heads/training/test_cuda_graph.py
step heads 120 "$python" bench/heads.py --json --epochs "$epochs" --runs 1 --lbfgs 0 --no-command \
    --without dataloader --without SGDClassifier
step forward 90 "$python" bench/forward.py --json --runs 3
step extract 130 "$python" bench/extract.py --json --images "$images" --runs 1
step classifiers 40 "$python" bench/classifiers.py --json --only knn --no-peers --queries "$queries" --runs 1
"$python" bench/gpu_table.py "$log" $dry_run

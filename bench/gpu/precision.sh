#!/usr/bin/env bash
# A run of the CIFAR-10 recipe in one precision: bash bench/gpu/precision.sh tf32|bf16. TIME=8m, SEED=1; SMALL=1: a trial.
. "$(dirname "$0")/setup.sh"
set -o pipefail
run=/tmp/ebmctl-gpu/icd-$1
rm -rf "$run"
set -- "$1" cifar10 --compile on --time "${TIME:-8m}" --set run.preview_every=100
if [ -n "$SMALL" ]; then
  set -- "$1" noise --compile off --steps 12 --set run.preview_every=4 --set data.size=8 --set network.width=4 \
    --set 'network.blocks=[0]' --set 'network.multipliers=[1]' --set network.scales=1 --set network.attention=0 \
    --set optimizer.batch_size=4 --set objective.steps=2 --set sampling.rounds=1 --set sampling.steps=1 --set sampling.final_steps=1
fi
precision=$1
shift
"$PYTHON" -m ebmctl train "$@" --precision "$precision" --seed "${SEED:-1}" --set run.checkpoint_every=500 --out "$run" \
  2>&1 | tee "$OUT/$precision.log"
cp "$run/metrics.jsonl" "$OUT/$precision.jsonl"
previews=$(find "$run" -name '*.png' | sort | tail -n 4)
for preview in $previews; do cp "$preview" "$OUT/$precision-$(basename "$preview")"; done

#!/usr/bin/env bash
# Peak memory and time of the ICD step, its KL loss in chunks of 32 and on the whole batch of 128.
# VARIANTS=eager-tf32,compiled-bf16 measures other forms; SMALL=1: a trial.
. "$(dirname "$0")/setup.sh"
for chunk in 32 64 128; do
  echo "== kl_chunk $chunk"
  "$PYTHON" -m bench gpu icd --variants "${VARIANTS:-eager-tf32,captured-tf32}" --set "objective.kl_chunk=$chunk" \
    --limit "${LIMIT:-185}" --out "$OUT/memory-$chunk.jsonl" ${SMALL:+--small}
done

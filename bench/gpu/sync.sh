#!/usr/bin/env bash
# Whether a training step waits for the GPU: the tests of that, then whole steps of the recipes in each form.
. "$(dirname "$0")/setup.sh"
set -o pipefail
{
  "$PYTHON" -m pytest -p no:cacheprovider -q tests/test_no_sync.py
  "$PYTHON" -m bench.gpu.sync ${SMALL:+"eager tf32" "captured tf32"}
} 2>&1 | tee "$OUT/sync.log"

#!/usr/bin/env bash
# Optimal pairing against pairs as they come: a few minutes. SMALL=1: a trial.
. "$(dirname "$0")/setup.sh"
set -o pipefail
"$PYTHON" -m bench.gpu.pairing --seconds "${SECONDS_EACH:-150}" ${SMALL:+--small} | tee "$OUT/pairing.jsonl"

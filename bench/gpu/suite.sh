#!/usr/bin/env bash
# All tests with the GPU as their device: the log goes to $OUT/suite.log. SMALL=1: one file, as a trial.
. "$(dirname "$0")/setup.sh"
set -o pipefail
export EBMCTL_TEST_DEVICE=${EBMCTL_TEST_DEVICE:-cuda}
timeout "${LIMIT:-560}" "$PYTHON" -m pytest -p no:cacheprovider -q -n "${JOBS:-8}" --durations=20 \
  ${SMALL:+tests/test_precision.py} ${MORE:-} 2>&1 | tee "$OUT/suite.log"

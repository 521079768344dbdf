#!/usr/bin/env bash
# The speed table, in three calls that take under 10 minutes each: bash bench/gpu/speed.sh 1|2|3
. "$(dirname "$0")/setup.sh"
case $1 in
  1) parts="langevin check sample score" ;;
  2) parts="icd" ;;
  3) parts="matching matching-unet" ;;
  *) echo "speed.sh 1|2|3" >&2; exit 2 ;;
esac
"$PYTHON" -m bench gpu $parts --together --limit "${LIMIT:-560}" --out "$OUT/speed-$1.jsonl" ${SMALL:+--small} ${MORE:-}

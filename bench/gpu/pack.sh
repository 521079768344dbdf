#!/usr/bin/env bash
# Make .gpu: what a lent GPU machine lacks (wheels for its Python 3.12), CIFAR-10, and the authors' checkpoints.
# Run it before a call that carries .gpu, in the checkout that the calls send: bash bench/gpu/pack.sh [SHARED]
set -euo pipefail
cd "$(dirname "$0")/../.."
shared=${1:-../shared}
: "${PYTHON:=$PWD/.venv/bin/python}"
rm -rf .gpu
mkdir -p .gpu/wheels .gpu/data .gpu/tools
echo '*' >.gpu/.gitignore # it travels because `carry` names it
platforms=()
for version in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do
  platforms+=(--platform "${version}_x86_64")
done
"$PYTHON" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
  --implementation cp "${platforms[@]}" -d .gpu/wheels tomli-w torch-fidelity lmdb hatchling trove-classifiers
built=$(mktemp -d) # of ebmctl only what says that it is installed: its code is the checkout's
"$PYTHON" -m pip wheel -q --disable-pip-version-check --no-deps -w "$built" .
"$PYTHON" -m zipfile -e "$built"/ebmctl-*.whl "$built/ebmctl"
mkdir .gpu/metadata && cp -r "$built"/ebmctl/*.dist-info .gpu/metadata
rm -rf "$built"
cp "$shared"/data/cifar10-jpeg-*.tar.xz .gpu/data
cp "$shared"/tools/cifar10_binary.py .gpu/tools
if [ -d "$shared/reference" ]; then cp -r "$shared/reference" .gpu/reference; fi
chmod -R u+w .gpu
bytes=$({ git ls-files -z | xargs -0 du -cb; du -sb .gpu; } | awk '/total$|\.gpu$/ { sum += $1 } END { print sum }')
echo ".gpu and the tracked files: $((bytes / 1048576)) MiB of 64"
[ "$bytes" -lt 67108864 ]

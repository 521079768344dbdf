# Sourced by the scripts here: what pack.sh has put into .gpu is made ready. Without it (a trial) nothing is.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
export PYTHONUNBUFFERED=1
: "${PYTHON:=python3}"
: "${OUT:=$(mktemp -d)}"
export OUT
ready=/tmp/ebmctl-gpu
if [ -d .gpu ]; then
  if [ ! -d $ready/site-packages ]; then # still there where the machine is warm
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
      --target $ready/site-packages .gpu/wheels/*.whl || exit
    cp -r .gpu/metadata/* $ready/site-packages || exit
    "$PYTHON" .gpu/tools/cifar10_binary.py $ready/data || exit
  fi
  export EBMCTL_DATA=$ready/data EBMCTL_REFERENCE=$PWD/.gpu/reference
  export PYTHONPATH=$PWD:$ready/site-packages # ebmctl itself is the code as it is here
else
  export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
fi

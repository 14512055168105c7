#!/usr/bin/env bash
# From a bare machine to a trained network and a checked submission. Flags go on to src/train.py.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

environment requirements.txt
"$python" "$kit/src/download.py" --if-possible
"$python" "$kit/src/train.py" "$@"

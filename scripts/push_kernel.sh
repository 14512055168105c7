#!/usr/bin/env bash
# Push the Kaggle notebook, wait for its run, fetch and check its output: scripts/push_kernel.sh [--no-wait]
set -euo pipefail
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[[ -x "$python" ]] || python=python3
"$python" "$root/scripts/build_kernel.py"
exec "$python" "$root/src/push_kernel.py" "$@"

#!/usr/bin/env bash
# Submit to Kaggle once and record the score: scripts/submit.sh [FILE] [-m TEXT]
set -euo pipefail
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[[ -x "$python" ]] || python=python3
exec "$python" "$root/src/submit.py" "$@"

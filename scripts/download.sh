#!/usr/bin/env bash
# Fetch the competition's data into data/: scripts/download.sh [--zip FILE]
set -euo pipefail
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[[ -x "$python" ]] || python=python3
exec "$python" "$root/src/download.py" "$@"

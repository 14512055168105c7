#!/usr/bin/env bash
# For a code competition: publish a run's models and predict with them in an offline notebook: scripts/publish.sh RUN
set -euo pipefail
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[[ -x "$python" ]] || python=python3
exec "$python" "$root/src/publish.py" "$@"

#!/usr/bin/env bash
# Run the kit as a notebook on Kaggle, as it lies in kernels/kit/: scripts/push_kernel.sh [--recipe R] [--accelerator A] [--no-wait]
set -euo pipefail
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[[ -x "$python" ]] || python=python3
case " $* " in
  *" --help "* | *" -h "* | *" --status"* | *" --fetch"*) ;; # Nothing is pushed.
  *) "$python" "$root/scripts/build_kernel.py" --check || true ;; # A note where it was edited, or src/ has changed since.
esac
exec "$python" "$root/src/push_kernel.py" "$@"

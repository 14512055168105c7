#!/usr/bin/env bash
# From a bare machine to a trained network and a checked submission. Flags go on to src/train.py.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

environment requirements.txt
case " $* " in
  *" --source"* | *" --data-dir"* | *" --help "* | *" -h "*) ;; # The user says where the data are.
  *" --competition "*)
    flags="$* " slug="${flags##*--competition }"
    "$python" "$kit/src/download.py" --competition "${slug%% *}"
    ;;
  *) "$python" "$kit/src/download.py" --if-possible ;;
esac
if [ $# = 0 ] && ! compgen -G "$kit/data/train.csv*" >/dev/null && [ ! -e "$kit/data/digit-recognizer.zip" ]; then
  set -- --recipe small # The sample, in about a minute on two cores.
fi
exec "$python" "$kit/src/train.py" "$@"

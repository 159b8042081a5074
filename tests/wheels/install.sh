#!/usr/bin/env bash
# Installs a wheel with pip in an empty environment and lets it classify photos.
#
#   install.sh WHEEL PYTHON ISA...
#
# ISA are the instruction sets that it has to find.
set -euo pipefail
wheel=$(realpath "$1") python=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset PYTHONPATH PYTHONHOME NYBBLE_MODEL NYBBLE_ISA
"$python" -m venv environment
started=$SECONDS
environment/bin/python -m pip install --quiet --disable-pip-version-check "$wheel" 2>pip.log ||
  { cat pip.log >&2; exit 1; }
echo "wheels: $(basename "$wheel"), installed in $((SECONDS - started)) s; $(
  environment/bin/python -I "$here/installed.py" "$folder/environment" "$@")"
environment/bin/nybble --version >/dev/null

#!/usr/bin/env bash
# Prints the first Python on this machine that is new enough and able to make virtual environments.
# PYTHON, where set, is the only candidate.
set -u

if [ -n "${PYTHON:-}" ]; then candidates=("$PYTHON"); else candidates=(python3 python3.14 python3.13 python3.12 python3.11 python); fi
old=""
bare=""
headless=""
for name in "${candidates[@]}"; do
  path=$(command -v "$name") || continue
  # A version manager's shim may exist without the interpreter behind it.
  version=$("$path" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
  if ! "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    old="$old $name ($version)"
  elif ! "$path" -c 'import ensurepip, venv' 2>/dev/null; then
    bare="$bare $name ($version)"
  elif ! "$path" -c 'import sysconfig, os, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'; then
    headless="$headless $name ($version)"
  else
    # The interpreter itself, not the shim: a shim answers differently in another folder.
    "$path" -c 'import sys; print(sys.executable)'
    exit 0
  fi
done
{
  echo "nybble: needs Python 3.11 or newer, with its venv module and headers."
  [ -z "$old" ] || echo "  too old:$old"
  [ -z "$bare" ] || echo "  without venv:$bare (on Debian and Ubuntu: apt-get install python3-venv)"
  [ -z "$headless" ] || echo "  without headers:$headless (on Debian and Ubuntu: apt-get install python3-dev)"
  echo "  Install one, name one with 'make PYTHON=/path/to/python3 ...', or install uv (https://docs.astral.sh/uv), which brings its own."
} >&2
exit 1

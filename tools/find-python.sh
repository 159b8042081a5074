#!/usr/bin/env bash
# Prints the first Python on this machine that is new enough and able to make virtual environments.
# PYTHON, where set, is the only candidate. VERSIONS='3.13 3.12', where set, are the versions to look for, best first.
set -u

wanted=${VERSIONS:-3.14 3.13 3.12 3.11}
if [ -n "${PYTHON:-}" ]; then
  candidates=("$PYTHON")
else
  candidates=(python3)
  for version in $wanted; do
    candidates+=("python$version")
    # A shim of pyenv answers only for the versions that are selected.
    if [ -n "${VERSIONS:-}" ]; then candidates+=("$(pyenv root 2>/dev/null)/versions/$version".*/bin/python3); fi
  done
  candidates+=(python)
fi
old=""
bare=""
headless=""
for name in "${candidates[@]}"; do
  path=$(command -v "$name") || continue
  # A version manager's shim may exist without the interpreter behind it.
  version=$("$path" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
  if [ -n "${VERSIONS:-}" ] && [[ " $wanted " != *" $version "* ]]; then continue; fi
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
  echo "nybble: needs Python ${VERSIONS:-3.11 or newer}, with its venv module and headers."
  [ -z "$old" ] || echo "  too old:$old"
  [ -z "$bare" ] || echo "  without venv:$bare (on Debian and Ubuntu: apt-get install python3-venv)"
  [ -z "$headless" ] || echo "  without headers:$headless (on Debian and Ubuntu: apt-get install python3-dev)"
  echo "  Install one, name one with 'make PYTHON=/path/to/python3 ...', or install uv (https://docs.astral.sh/uv), which brings its own."
} >&2
exit 1

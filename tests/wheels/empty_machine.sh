#!/usr/bin/env bash
# Installs the wheels of dist/ with every Python 3.11 to 3.13 that is found here, and with Python 3.14 on an empty Debian,
# classifies photos, and prints how long that took. Needs root, mmdebstrap and a network.
set -euo pipefail
cd "$(dirname "$0")/../.."
dist=$PWD/${1:-dist}
mapfile -t isas < <(.venv/bin/python -c 'from nybble import _native; print(*_native.available_isas(), sep="\n")')

for version in 3.11 3.12 3.13; do
  case $version in 3.11) tag=cp311 ;; *) tag=abi3 ;; esac
  if found=$(PYTHON='' VERSIONS=$version bash tools/find-python.sh 2>/dev/null); then
    bash tests/wheels/install.sh "$dist"/*-$tag-*x86_64.whl "$found" "${isas[@]}"
  else
    echo "wheels: no Python $version here"
  fi
done

# libstdc++6 is for NumPy, whose wheels do not bring it; those of nybble need none.
root=$PWD/build/wheels/forky
if [ ! -e "$root/made" ]; then
  rm -rf "$root"
  mmdebstrap --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
    --include=python3.14,python3.14-venv,libstdc++6 forky "$root"
  # What installing the packages would make.
  for name in bin lib lib64 sbin; do [ -e "$root/$name" ] || ln -s "usr/$name" "$root/$name"; done
  touch "$root/made"
fi
rm -rf "$root/environment" "$root/wheels"
mkdir -p "$root/etc/ssl/certs" "$root/wheels"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp "$dist"/*-abi3-*x86_64.whl tests/wheels/installed.py "$root/wheels/"
chroot "$root" /usr/bin/python3.14 -m venv /environment
started=$SECONDS
chroot "$root" /environment/bin/python -m pip install --quiet --disable-pip-version-check \
  "/wheels/$(cd "$root/wheels" && ls ./*.whl)"
echo "wheels: empty Debian, installed in $((SECONDS - started)) s; $(
  chroot "$root" /environment/bin/python -I /wheels/installed.py /environment "${isas[@]}")"

#!/bin/bash
# usage: tools/lib/guest_kernel.sh FOLDER
# Puts a Debian kernel image into FOLDER/boot, for virtual machines of the tests. It is unpacked, not
# installed: what this machine boots is left alone. Does nothing if there is one.
set -euo pipefail

if (($# != 1)); then
  sed -n '2,4s/^# //p' "$0" >&2
  exit 2
fi
folder=$1
if compgen -G "$folder/boot/vmlinuz-*" >/dev/null; then
  exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  echo "this is no Debian: set CMWQ_GUEST_KERNEL to a kernel image with its serial console built in" >&2
  exit 1
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What the newest cloud kernel is called, as far as this machine's lists of packages know.
fetch() {
  local package
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
  [[ -n $package ]] && (cd "$scratch" && apt-get download -q "$package")
}

# Lists that are old or missing name a package that is no longer there, or none.
if ! fetch; then
  if ((EUID != 0)); then
    echo "no kernel could be fetched; as root: apt-get update" >&2
    exit 1
  fi
  apt-get update -q
  fetch
fi
dpkg-deb --fsys-tarfile "$scratch"/linux-image-*.deb | tar -x -C "$scratch" --wildcards './boot/vmlinuz-*'
mkdir -p "$folder"
cp -r "$scratch/boot" "$folder/"

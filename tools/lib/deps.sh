# shellcheck shell=bash
# The packages this project needs on Debian 12, and how the scripts in tools/ install them.
# To be sourced.

# For building the library, the preload and the command.
# shellcheck disable=SC2034  # used by the scripts that source this file
packages_build=(
  g++
  liburing-dev
  meson
  ninja-build
  pkg-config
  python3
)

# For everything else: the tests, the benchmarks, the other compiler and the servers under test.
# Only the -core packages of MariaDB: they bring the programs without installing a running service.
# shellcheck disable=SC2034
packages_check=(
  clang
  libabsl-dev
  libasio-dev
  libbenchmark-dev
  libbpf-dev
  libcap2-bin
  libclang-rt-14-dev
  libgmock-dev
  libgtest-dev
  libjemalloc2
  libmimalloc2.0
  libtcmalloc-minimal4
  mariadb-client-core
  mariadb-server-core
  qemu-system-x86
  sysbench
  systemtap-sdt-dev
  valgrind
)

# Prints a command as it could be typed, then runs it.
run() {
  printf '+' >&2
  printf ' %q' "$@" >&2
  printf '\n' >&2
  "$@"
}

# ensure_packages INSTALL PACKAGE...: installs those that are missing. With INSTALL=no it only names
# them and fails.
ensure_packages() {
  local install=$1 package
  local -a missing=() as_root=()
  shift
  if ! command -v dpkg-query >/dev/null; then
    echo "this is no Debian; these packages of Debian 12 are needed under their names here: $*" >&2
    return 0
  fi
  for package in "$@"; do
    if [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) != 'install ok installed' ]]; then
      missing+=("$package")
    fi
  done
  if ((${#missing[@]} == 0)); then
    return 0
  fi
  echo "missing packages: ${missing[*]}" >&2
  if [[ $install == no ]]; then
    echo "install them with: apt-get install --no-install-recommends ${missing[*]}" >&2
    return 1
  fi
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "neither root nor sudo; as root:" \
        "apt-get install --no-install-recommends ${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  run "${as_root[@]}" apt-get update -q &&
    run "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# configure_build DIR COMPILERS OPTION...: brings a build folder to these meson options. COMPILERS
# is "gcc" or "clang". Does nothing if the folder was last brought to the same ones.
configure_build() {
  local dir=$1 compilers=$2
  shift 2
  local stamp="$dir/configured-by-tools" wanted="$compilers $*"
  local -a environment=(CC=gcc CXX=g++)
  if [[ $compilers == clang ]]; then
    environment=(CC=clang CXX=clang++)
  fi
  if [[ ! -e $dir/build.ninja ]]; then
    run env "${environment[@]}" meson setup "$dir" "$@" || return
  elif [[ $(cat "$stamp" 2>/dev/null) != "$wanted" ]]; then
    run meson configure "$dir" "$@" || return
  fi
  printf '%s\n' "$wanted" >"$stamp"
}

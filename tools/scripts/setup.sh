# Sourced by tools/demo, tools/test, tools/package and tools/cross-build: finds what the project needs, installs
# what is missing (apt-get), and configures build/. Needs bash and a Debian-like system.
set -euo pipefail

project_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build_dir=$project_root/build

build_packages=(
  g++ dpkg-dev meson ninja-build pkg-config
  libxsimd-dev libutf8proc-dev cppzmq-dev libcli11-dev nlohmann-json3-dev libfmt-dev libzstd-dev
  libmicrohttpd-dev libpng-dev libjpeg62-turbo-dev doctest-dev libbenchmark-dev
  binutils python3 python3-numpy
)

# Whether -h or --help is among the arguments.
asks_for_help() {
  local word
  for word in "$@"; do
    [[ $word == -h || $word == --help ]] && return 0
  done
  return 1
}

# The comment that a script begins with.
print_usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"
}

die() {
  echo "error: $*" >&2
  exit 1
}

# install_packages NAME...: installs those that are missing; says so and stops where it may not.
install_packages() {
  command -v dpkg-query > /dev/null || die "this set-up needs Debian or a relative of it; install by hand: $*"
  local missing=() name native installed
  native=$(dpkg --print-architecture)
  # A package may be installed for several architectures at once.
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}:${Architecture}\n' "${@%%:*}" 2> /dev/null || true)
  for name in "$@"; do
    [[ $name == *:* ]] || name+=:$native
    grep -qxF -e "installed $name" -e "installed ${name%%:*}:all" <<< "$installed" || missing+=("${name%:"$native"}")
  done
  ((${#missing[@]})) || return 0

  local run=()
  if ((EUID != 0)); then
    if command -v sudo > /dev/null && { sudo -n true 2> /dev/null || [[ -t 0 ]]; }; then
      run=(sudo)
    else
      die "missing packages; as root: apt-get install --no-install-recommends ${missing[*]}"
    fi
  fi
  echo "installing: ${missing[*]}" >&2
  local log
  log=$(mktemp)
  if ! { "${run[@]}" apt-get update -q &&
    "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; } > "$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "apt-get could not install: ${missing[*]}"
  fi
  rm -f "$log"
}

# add_architecture ARCH: lets packages of another architecture be installed.
add_architecture() {
  dpkg --print-foreign-architectures | grep -qx "$1" && return 0
  if ((EUID == 0)); then
    dpkg --add-architecture "$1"
  elif command -v sudo > /dev/null; then
    sudo dpkg --add-architecture "$1"
  else
    die "as root: dpkg --add-architecture $1"
  fi
}

# install_cross_packages ARCH: compiler and libraries for Debian's arm64 or armhf, and what runs its programs here.
install_cross_packages() {
  local libraries=(
    libxsimd-dev libutf8proc-dev libzmq3-dev cppzmq-dev libfmt-dev libzstd-dev libpng-dev libjpeg62-turbo-dev
    libbenchmark-dev
  )
  add_architecture "$1"
  install_packages "crossbuild-essential-$1" qemu-user "${libraries[@]/%/:$1}"
}

# unpack_source DIR PACKAGE: Debian's source package of this release, unpacked into DIR, which is made anew.
unpack_source() {
  local dir=$1 package=$2 codename
  rm -rf "$dir"
  mkdir -p "$dir/lists/partial"
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $codename main" > "$dir/sources.list"
  local apt=(apt-get -q -o "Dir::Etc::SourceList=$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$dir/lists" -o APT::Sandbox::User=root)
  (cd "$dir" && "${apt[@]}" update && "${apt[@]}" source "$package")
}

# configure DIR [MESON ARGUMENT...]: meson setup, once.
configure() {
  local dir=$1
  shift
  [[ -f $dir/build.ninja ]] && return 0
  rm -rf "$dir"
  meson setup "$dir" "$project_root" "$@" > "$dir.log" 2>&1 || {
    tail -n 30 "$dir.log" >&2
    die "meson setup failed; the whole log is in $dir.log"
  }
  rm -f "$dir.log"
}

# build DIR [TARGET...]: quiet unless it fails.
build() {
  local dir=$1 log
  shift
  log=$(mktemp)
  if ! ninja -C "$dir" "$@" > "$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    die "the build in $dir failed"
  fi
  rm -f "$log"
}

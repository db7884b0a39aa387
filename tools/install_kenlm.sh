#!/usr/bin/env bash
# Builds KenLM's lmplz and build_binary, which the Python package `kenlm` does not hold, without root.
#
#   tools/install_kenlm.sh
#
# The source is the pinned sdist of that package; CMake, Ninja and Boost come as wheels into a folder that is
# removed at the end. Two programs and the Boost libraries that they load stay, found by a relative run path.
#
#   HLAS_KENLM      folder to install into: bin/ and lib/ (default: .kenlm in the checkout)
#   HLAS_PYTHON     Python that makes the temporary environment (default: the checkout's .venv, else python3)
#   HLAS_PIP_ARGS   more arguments for pip, such as an index
#   CXX             C++ compiler (default: the one CMake finds)
#
# Exit code: 0 the programs are there and work; 1 the build failed (the log's name is printed); 2 something is missing.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tools/kenlm_source.sh
source "$root/tools/kenlm_source.sh"
readonly BOOST_WHEEL=cmeel-boost==1.87.0.1  # the libraries of a Boost wheel are tied to its version: see lib/
readonly BUILD_WHEELS=(cmake==3.31.10 ninja==1.13.0 "${SDIST_WHEELS[@]}")
readonly MADE_BY="kenlm $KENLM_VERSION by hlas tools/install_kenlm.sh"

target=${HLAS_KENLM:-$root/.kenlm}

fail() {  # fail CODE MESSAGE…
  local code=$1
  shift
  printf 'install_kenlm.sh: %s\n' "$@" >&2
  exit "$code"
}

other_ways() {
  cat >&2 <<'END'
Other ways to lmplz and build_binary (hlas looks on PATH first):
  conda          conda install -c conda-forge kenlm
or give this script what it lacks and run it again:
  Debian/Ubuntu  sudo apt-get install g++ libboost-program-options-dev libboost-thread-dev
  Fedora         sudo dnf install gcc-c++ boost-devel
  macOS          xcode-select --install && brew install boost
  conda          conda install -c conda-forge cxx-compiler libboost-devel
END
}

works() {  # works BIN: both programs load and make a binary model of a few words
  local bin=$1 try status=0
  try=$(mktemp -d)
  printf 'a b c\na c b\nb a\n' >"$try/text"
  env -u LD_LIBRARY_PATH -u DYLD_LIBRARY_PATH "$bin/lmplz" -o 2 -S 64M -T "$try/sort" --discount_fallback \
    <"$try/text" >"$try/lm.arpa" 2>"$try/log" &&
    grep -q '^ngram 2=' "$try/lm.arpa" &&
    env -u LD_LIBRARY_PATH -u DYLD_LIBRARY_PATH "$bin/build_binary" trie "$try/lm.arpa" "$try/lm.bin" >>"$try/log" 2>&1 &&
    test -s "$try/lm.bin" || { status=1; cat "$try/log" 2>/dev/null; }
  rm -rf "$try"
  return "$status"
}

[ $# -eq 0 ] || fail 2 "takes no arguments; see the head of $0"
if [ -e "$target" ]; then
  if [ "$(head -n 1 "$target/made_by.txt" 2>/dev/null)" = "$MADE_BY" ] && works "$target/bin" >/dev/null; then
    echo "KenLM $KENLM_VERSION is in $target/bin"
    exit 0
  fi
  # search/ is build_search.sh's
  [ -e "$target/made_by.txt" ] || [ -z "$(ls -A "$target" | grep -vx search)" ] ||
    fail 2 "$target holds something else" "name a folder of its own in HLAS_KENLM"
fi

python=${HLAS_PYTHON:-$root/.venv/bin/python}
[ -n "${HLAS_PYTHON:-}" ] || [ -x "$python" ] || python=python3
"$python" -c 'import venv' 2>/dev/null || fail 2 "no usable Python: $python" "name one in HLAS_PYTHON"
# CMake reads CXX and looks for the same names
find_compiler >/dev/null || { other_ways; fail 2 "no C++ compiler (${CXX:-c++, g++, clang++})"; }

work=$(mktemp -d "${TMPDIR:-/tmp}/hlas-kenlm.XXXXXX")
part=$(dirname "$target")/.$(basename "$target").$$.part
log=$work/build.log
trap 'rm -rf "$part"; [ -z "$work" ] || rm -rf "$work"' EXIT

step() {  # step WHAT COMMAND…: run quietly; a failure shows the end of the log and keeps it
  local what=$1 kept
  shift
  printf '\n== %s\n' "$what" >>"$log"
  if ! "$@" >>"$log" 2>&1; then
    kept=$(mktemp "${TMPDIR:-/tmp}/install_kenlm.XXXXXX.log" 2>/dev/null || mktemp)
    cp "$log" "$kept"
    tail -n 15 "$log" >&2
    other_ways
    fail 1 "failed: $what" "whole log: $kept"
  fi
}

pip() {
  pip_of "$work/env/bin/python" "$@"
}

echo "building KenLM $KENLM_VERSION into $target (a minute or two)"
step "temporary Python environment" "$python" -m venv "$work/env"
step "CMake and Ninja" pip install "${BUILD_WHEELS[@]}"
PATH=$work/env/bin:$PATH
step "KenLM source" fetch_kenlm "$work/env/bin/python" "$work"
source=$work/kenlm-$KENLM_VERSION
# Only the tests need unit_test_framework; Boost.System has no library since 1.69 and no CMake target since 1.89.
# C++14: newer Boost refuses 11, and 17 lacks std::unary_function, which KenLM uses.
sed -i.orig -e '/^ *unit_test_framework *$/d' -e '/^ *system *$/d' -e 's/CMAKE_CXX_STANDARD 11/CMAKE_CXX_STANDARD 14/' \
  "$source/CMakeLists.txt"

boost=()
printf '\n== Boost wheel\n' >>"$log"
if pip install --no-deps --only-binary :all: "$BOOST_WHEEL" >>"$log" 2>&1; then
  prefix=$("$work/env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/cmeel.prefix
  boost=("-DCMAKE_PREFIX_PATH=$prefix" -DBoost_NO_SYSTEM_PATHS=ON)
else
  echo "no wheel of Boost for this platform: the system's own Boost is tried" | tee -a "$log"
fi
run_path="\$ORIGIN/../lib"
[ "$(uname)" != Darwin ] || run_path=@loader_path/../lib
# the compression libraries would be one more thing to find at run time, and the text comes uncompressed
step "configuration" cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  ${boost[@]+"${boost[@]}"} \
  -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON "-DCMAKE_INSTALL_RPATH=$run_path" \
  -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON -DCMAKE_DISABLE_FIND_PACKAGE_ZLIB=ON \
  -DCMAKE_DISABLE_FIND_PACKAGE_BZip2=ON -DCMAKE_DISABLE_FIND_PACKAGE_LibLZMA=ON
step "compilation" cmake --build "$work/build" --target lmplz build_binary

mkdir -p "$part/bin" "$part/lib"
cp "$work/build/bin/lmplz" "$work/build/bin/build_binary" "$part/bin/"
if [ ${#boost[@]} -gt 0 ]; then
  for name in program_options thread atomic chrono; do
    for library in "$prefix/lib/libboost_$name".so.* "$prefix/lib/libboost_$name"*.dylib; do
      [ ! -e "$library" ] || cp "$library" "$part/lib/"
    done
  done
fi
cp "$source/LICENSE" "$part/KENLM_LICENSE"
printf '%s\n%s\n' "$MADE_BY" "$([ ${#boost[@]} -gt 0 ] && echo "Boost from $BOOST_WHEEL" || echo "Boost of this system")" \
  >"$part/made_by.txt"
rm -rf "$work/env"  # nothing of it may be needed to run
step "trial run" works "$part/bin"
cp "$log" "$part/build.log"
[ ! -d "$target/search" ] || mv "$target/search" "$part/search"
[ ! -e "$target" ] || mv "$target" "$work/old"
# rename(2) refuses a folder that is there and not empty, where mv would move into it: another run was faster
"$python" -c 'import os, sys; os.rename(*sys.argv[1:])' "$part" "$target" 2>/dev/null || works "$target/bin" ||
  fail 1 "cannot put the programs into $target"
echo "KenLM $KENLM_VERSION is in $target/bin"

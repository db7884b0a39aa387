#!/usr/bin/env bash
# Builds the C++ core of the fast beam search (src/hlas/decode/ctc_search) with KenLM's query code, without root.
#
#   tools/build_search.sh OUT
#
# hlas runs it when the core is first needed. OUT is the library to write; KenLM's query code, compiled from the pinned
# source, stays beside it for the next build. A half-written OUT is never seen: it is renamed into place.
#
#   HLAS_PYTHON     Python that makes a temporary environment to fetch the source (default: the checkout's .venv, else python3)
#   HLAS_PIP_ARGS   more arguments for pip, such as an index
#   CXX             C++ compiler (default: c++, g++ or clang++)
#
# Exit code: 0 OUT is there; 1 the build failed; 2 something is missing.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tools/kenlm_source.sh
source "$root/tools/kenlm_source.sh"

fail() {  # fail CODE MESSAGE…
  local code=$1
  shift
  printf 'build_search.sh: %s\n' "$@" >&2
  exit "$code"
}

[ $# -eq 1 ] || fail 2 "takes one argument; see the head of $0"
out=$1
compiler=$(find_compiler) ||
  fail 2 "no C++ compiler (${CXX:-c++, g++, clang++})" "Debian/Ubuntu: sudo apt-get install g++; macOS: xcode-select --install" \
    "conda: conda install -c conda-forge cxx-compiler"
python=${HLAS_PYTHON:-$root/.venv/bin/python}
[ -n "${HLAS_PYTHON:-}" ] || [ -x "$python" ] || python=python3

mkdir -p "$(dirname "$out")"
kenlm=$(dirname "$out")/kenlm-$KENLM_VERSION-$(uname -s)-$(uname -m)
work=$(mktemp -d "$(dirname "$out")/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Order 6 as in the Python package; no -march, so that one folder serves several machines; no fused multiplications,
# so that scores are the same on all of them. C++14, as KenLM's headers use what 17 has removed.
readonly FLAGS=(-std=c++14 -O3 -DNDEBUG -DKENLM_MAX_ORDER=6 -ffp-contract=off -fPIC -fvisibility=hidden)

if [ ! -d "$kenlm" ]; then
  "$python" -m venv "$work/env" && pip_of "$work/env/bin/python" install "${SDIST_WHEELS[@]}" &&
    fetch_kenlm "$work/env/bin/python" "$work" || fail 1 "cannot fetch the source of KenLM $KENLM_VERSION"
  source=$work/kenlm-$KENLM_VERSION
  # each object takes its source's name, and these are all different
  (
    cd "$source" && for file in lm/*.cc util/*.cc util/double-conversion/*.cc; do
      case $file in *_main.cc | *_test.cc) ;; *) printf '%s\0' "$file" ;; esac
    done | xargs -0 -n 1 -P "$(getconf _NPROCESSORS_ONLN)" "$compiler" "${FLAGS[@]}" -w -I. -c &&
      ar rcs libkenlm.a ./*.o && rm -f ./*.o
  ) || fail 1 "cannot compile KenLM $KENLM_VERSION with $compiler"
  mkdir "$work/kenlm"
  mv "$source/lm" "$source/util" "$source/LICENSE" "$source/COPYING.LESSER.3" "$source/libkenlm.a" "$work/kenlm/"
  mv "$work/kenlm" "$kenlm"
fi

link=(-shared)
[ "$(uname -s)" = Darwin ] || link+=(-Wl,-Bsymbolic -pthread)  # the Python package's own KenLM may be loaded as well
"$compiler" "${FLAGS[@]}" -isystem "$kenlm" "$root"/src/hlas/decode/ctc_search/*.cpp "${link[@]}" "$kenlm/libkenlm.a" \
  -o "$work/core.so" || fail 1 "cannot compile the search with $compiler"
mv "$work/core.so" "$out"

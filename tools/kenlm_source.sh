# Sourced by install_kenlm.sh and build_search.sh: the pinned source of KenLM, from the Python package's sdist.
# shellcheck shell=bash

readonly KENLM_VERSION=0.3.0
readonly KENLM_SHA256=c4628bb9fb63c8a6f9240035b8b037385cfc404cb72e933cf48878291edac1e8
# shellcheck disable=SC2034  # read by those who source this
readonly SDIST_WHEELS=(setuptools==80.9.0 wheel==0.45.1)

pip_of() {  # pip_of PYTHON COMMAND…: that Python's pip; HLAS_PIP_ARGS is a list of more words for it
  # shellcheck disable=SC2086
  "$1" -m pip "$2" --quiet --disable-pip-version-check ${HLAS_PIP_ARGS:-} "${@:3}"
}

fetch_kenlm() {  # fetch_kenlm PYTHON FOLDER: FOLDER/kenlm-$KENLM_VERSION; the Python has SDIST_WHEELS
  local sdist=$2/kenlm-$KENLM_VERSION.tar.gz
  pip_of "$1" download --no-deps --no-build-isolation --no-binary kenlm -d "$2" "kenlm==$KENLM_VERSION" || return
  "$1" - "$sdist" "$KENLM_SHA256" <<'END' || return
import hashlib, pathlib, sys
found = hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest()
if found != sys.argv[2]:
    sys.exit(f"{sys.argv[1]}: sha256 is {found}, expected {sys.argv[2]}")
END
  tar -xzf "$sdist" -C "$2"
}

find_compiler() {  # prints the C++ compiler: CXX, else the first one on PATH
  local name
  for name in ${CXX:-c++ g++ clang++}; do
    command -v "$name" && return
  done
  return 1
}

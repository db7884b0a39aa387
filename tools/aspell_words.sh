#!/usr/bin/env bash
# The word forms that a language's spell-checking dictionary knows, one a line, for an LM that must spell words its text lacks:
#     apt install aspell aspell-hsb && tools/aspell_words.sh hsb > data/text/hsb_words.txt
# Give the file to an `lm` stage of order 2 and mix that with the text's LM (`lm_mix`); see lm/README.md.
set -euo pipefail

if [ $# -ne 1 ]; then
  sed -n '2,4s/^# //p' "$0" >&2
  exit 2
fi
command -v aspell >/dev/null || { echo "aspell_words.sh: no aspell here: apt install aspell aspell-$1" >&2; exit 1; }
aspell --lang="$1" dump dicts | grep -qx "$1" || { echo "aspell_words.sh: aspell has no dictionary '$1': apt install aspell-$1" >&2; exit 1; }
# `expand` writes a stem and its forms on one line; a word list may hold flags that are no words
aspell --lang="$1" --encoding=utf-8 dump master | aspell --lang="$1" --encoding=utf-8 expand | tr ' ' '\n' | grep -v '[0-9]' | LC_ALL=C sort -u

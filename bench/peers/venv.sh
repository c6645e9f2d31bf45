# Sourced by bench/peers/images and texts, after tools/scripts/setup.sh.

# peers_python PACKAGE...: an interpreter that has these from PyPI, in build/peers/venv; installs what is missing.
peers_python() {
  local venv=$build_dir/peers/venv missing=() package
  for package in "$@"; do
    [[ -e $venv/complete-$package ]] || missing+=("$package")
  done
  if ((${#missing[@]})); then
    { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet "${missing[@]}" >&2 &&
      touch "${missing[@]/#/$venv/complete-}"; } || return
  fi
  echo "$venv/bin/python"
}

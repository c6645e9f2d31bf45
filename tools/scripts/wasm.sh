#!/usr/bin/env bash
# wasm.sh (run by `tools/cross-build wasm`): the engine as WebAssembly and the page that has it, build-wasm/splitee.html,
# with the unit tests of what it is made of under node. Header libraries come from Debian's packages, utf8proc from
# its source package.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
wasm_dir=$project_root/build-wasm
prefix=$wasm_dir/prefix

# pkg_config_file NAME VERSION [LIBRARY]
pkg_config_file() {
  printf '%s\n' "Name: $1" "Description: for WebAssembly" "Version: $2" "${3:+Libs: $prefix/lib/$3}" > "$prefix/lib/pkgconfig/$1.pc"
}

# Headers that are the same on every machine, away from those of this machine's C library.
link_headers() {
  local name
  for name in xsimd nlohmann doctest; do
    ln -sfn "/usr/include/$name" "$prefix/include/$name"
  done
  pkg_config_file xsimd "$(pkg-config --modversion xsimd)"
  pkg_config_file nlohmann_json "$(pkg-config --modversion nlohmann_json)"
}

build_utf8proc() {
  [[ -f $prefix/lib/libutf8proc.a ]] && return 0
  local work=$wasm_dir/utf8proc log=$wasm_dir/utf8proc.log
  (unpack_source "$work" utf8proc && cd "$work"/utf8proc-*/ &&
    emcc -O2 -c utf8proc.c -o utf8proc.o && emar rcs libutf8proc.a utf8proc.o &&
    cp utf8proc.h "$prefix/include" && cp libutf8proc.a "$prefix/lib") > "$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "utf8proc could not be built; the whole log is in $log"
  }
  local version
  version=$(sed -n 's/^#define UTF8PROC_VERSION_M[A-Z]* *\([0-9]*\).*/\1/p' "$prefix/include/utf8proc.h" | paste -sd.)
  pkg_config_file libutf8proc "$version" libutf8proc.a
}

install_packages "${build_packages[@]}" emscripten nodejs
# Where emscripten finds its parser when node is not Debian's.
export NODE_PATH=/usr/share/nodejs${NODE_PATH:+:$NODE_PATH}
mkdir -p "$prefix/include" "$prefix/lib/pkgconfig"
link_headers
build_utf8proc
echo "[constants]
prefix = '$prefix'" > "$wasm_dir/prefix.ini"
configure "$wasm_dir/build" --cross-file "$wasm_dir/prefix.ini" --cross-file "$project_root/tools/scripts/cross/wasm.ini"
build "$wasm_dir/build"
meson test -C "$wasm_dir/build" --no-rebuild --print-errorlogs --timeout-multiplier 10
cp "$wasm_dir/build/web/splitee.html" "$wasm_dir/splitee.html"
echo "$wasm_dir/splitee.html"

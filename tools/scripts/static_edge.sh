#!/usr/bin/env bash
# static_edge.sh OUTPUT_DIR (run by `tools/package static`): splitee-edge and the tool as a tar file that needs
# nothing but a C library as new as this machine's. libzmq comes from Debian's source package, without its
# optional dependencies (CURVE is in it, by the code that it carries); the other libraries from Debian's
# static ones, and fmt, of which Debian has none, from its headers. --http and --metrics still load libmicrohttpd.
# Builds in build-static/.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
output=${1:?a folder}
install_packages "${build_packages[@]}" cmake
static_dir=$project_root/build-static
arch=$(dpkg --print-architecture)
mkdir -p "$static_dir"

# build_zmq: a static libzmq in build-static/prefix, from the source package of this Debian.
build_zmq() {
  [[ -f $static_dir/prefix/lib/libzmq.a ]] && return 0
  local work=$static_dir/zmq log=$static_dir/zmq.log
  (unpack_source "$work" zeromq3 && cd "$work" &&
    cmake -S zeromq3-*/ -B build -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$static_dir/prefix" \
      -DCMAKE_INSTALL_LIBDIR=lib -DBUILD_SHARED=OFF -DBUILD_STATIC=ON -DBUILD_TESTS=OFF -DWITH_PERF_TOOL=OFF \
      -DWITH_DOCS=OFF -DWITH_LIBSODIUM=OFF -DENABLE_CURVE=ON -DENABLE_WS=OFF -DWITH_LIBBSD=OFF -DENABLE_CPACK=OFF &&
    cmake --build build --parallel "${JOBS:-$(nproc)}" && cmake --install build) > "$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "libzmq could not be built; the whole log is in $log"
  }
}

build_zmq
export PKG_CONFIG_PATH=$static_dir/prefix/lib/pkgconfig
configure "$static_dir/build" -Dtests=false -Dbenchmarks=false -Dprefer_static=true \
  -Dcpp_args=-DFMT_HEADER_ONLY "-Dcpp_link_args=-static-libstdc++ -static-libgcc"
build "$static_dir/build" tools/splitee-edge tools/splitee tools/splitee-edge.1 tools/splitee.1 tools/splitee.spdx.json

version=$("$static_dir/build/tools/splitee-edge" --version | sed -n '1s/^[^ ]* \([0-9.]*\).*/\1/p')
name=splitee-edge-$version-$arch
rm -rf "${static_dir:?}/$name"
mkdir "$static_dir/$name"
for program in splitee-edge splitee; do
  shared=$(LC_ALL=C readelf -d "$static_dir/build/tools/$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
    grep -vxE 'lib(c|m)\.so\.6|ld-linux-.*' || true)
  [[ -z $shared ]] || die "$program needs $shared"
  strip -o "$static_dir/$name/$program" "$static_dir/build/tools/$program"
done
cp "$static_dir/build/tools/"{splitee-edge.1,splitee.1} "$project_root"/{LICENSE,LICENSES.md} "$static_dir/$name"
cp "$static_dir/zmq/"zeromq3-*/COPYING.LESSER "$static_dir/$name/COPYING.LESSER.libzmq"
mkdir -p "$output"
tar -C "$static_dir" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-$(date +%s)}" \
  -cf - "$name" | xz > "$output/$name.tar.xz"
echo "$output/$name.tar.xz"

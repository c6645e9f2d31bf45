// The entry point of every target. Internal to this folder: a program asks kernels.h.
//
// Each target is its own static library, compiled with its own machine flags, and this one
// function is all that it exports, so that no code made for a newer CPU can be linked into callers
// made for an older one. It runs on every CPU, whatever the target needs, as it is called before
// anything is known: it returns the address of a constant. Only the targets that meson.build names
// for the host exist.
#pragma once

#include "kernels/kernels.h"

namespace splitee::kernels {

const Kernels& scalar_target();
const Kernels& sse42_target();
const Kernels& avx2_target();
const Kernels& avx2vnni_target();
const Kernels& avx512_target();
const Kernels& avx512vnni_target();
const Kernels& avx512bf16_target();
// Its products alone, and what reads rows that were prepared for them.
const Kernels& avx512amx_target();
// avx512bf16's kernels, with those of `tiles` in their place.
Kernels with_tiles(const Kernels& tiles);
const Kernels& neon_target();
const Kernels& neon_dotprod_target();
const Kernels& neon_i8mm_target();
const Kernels& wasm_simd128_target();

}  // namespace splitee::kernels

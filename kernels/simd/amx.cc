// The target of Intel's AMX, compiled on its own as target.cc is: one function is all that it
// exports.
#include "kernels/simd/amx_instructions-inl.h"

namespace splitee::kernels {

namespace {
constexpr Kernels kKernels = amx_kernels<AmxInstructions>("avx512amx");
}  // namespace

const Kernels& avx512amx_target() {
  return kKernels;
}

}  // namespace splitee::kernels

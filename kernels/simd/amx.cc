// The target of Intel's AMX, compiled on its own as target.cc is: one function is all that it
// exports.
#include "kernels/simd/amx_instructions-inl.h"

namespace splitee::kernels {

const Kernels& avx512amx_target() {
  static const Kernels kernels = amx_kernels<AmxInstructions>("avx512amx");
  return kernels;
}

}  // namespace splitee::kernels

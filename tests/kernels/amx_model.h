// A model of the tile instructions of Intel's AMX after the "Intel 64 and IA-32 Architectures
// Software Developer's Manual", volume 2 (LDTILECFG, TILERELEASE, TILEZERO, TILELOADD, TILESTORED,
// TDPBSSD, TDPBF16PS) and palette 1: eight tiles of up to 16 rows of 64 bytes. What would fault on
// a processor aborts with a line on stderr.
//
// Thread rule: each thread has tiles of its own, as each has its registers.
#pragma once

#include <cstddef>

#include "kernels/kernels.h"

namespace splitee::kernels {

// avx512amx with the model in place of the instructions; for CPUs that have avx512bf16.
const Kernels& avx512amx_model_target();

namespace testing::amx {

// `config`: 64 bytes.
void load_config(const void* config);
void release();
// Whether there is a configuration: not so before the first and after release().
bool configured();
void zero(std::size_t tile);
void load(std::size_t tile, const void* p, std::size_t stride_bytes);
void store(std::size_t tile, void* p, std::size_t stride_bytes);
// TDPBSSD and TDPBF16PS: sum += left * right.
void add_int8(std::size_t sum, std::size_t left, std::size_t right);
void add_bf16(std::size_t sum, std::size_t left, std::size_t right);
// Products since the thread began, of both kinds.
std::size_t products();

}  // namespace testing::amx
}  // namespace splitee::kernels

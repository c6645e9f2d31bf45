// The machine code of avx512amx on a CPU without AMX: its instructions fault there, and a handler
// of SIGILL does with the model (amx_model.h) what they stand for, by their bytes.
//
// Thread rule: a handler is the process's: instructions of all threads are done.
#pragma once

#include <cstddef>

namespace splitee::kernels::testing::amx {

// Until another handler takes its place. Any other instruction that faults ends the process as it
// would without.
void trap_instructions();
// How many have been done.
std::size_t trapped();

}  // namespace splitee::kernels::testing::amx

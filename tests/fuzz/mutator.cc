// What libFuzzer changes, most of the time with the checksum put right.
#include <cstring>

#include "tests/fuzz/fuzz.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, most);
  if (seed % 16 == 0) return size;
  std::string input(splitee::fuzz::text_of(data, size));
  splitee::fuzz::repair(input);
  std::memcpy(data, input.data(), size);
  return size;
}

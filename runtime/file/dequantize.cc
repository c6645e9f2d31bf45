#include "runtime/file/dequantize.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "base/status.h"

namespace splitee::runtime {
namespace {

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

inline float from_bfloat(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// Whether no element has all bits of the exponent set: without its sign, such a one is the greatest
// as an integer. A branch-free loop: one body, which the compiler vectorises for each instruction
// set.
template <class Bits>
[[gnu::always_inline]] inline bool none_special(std::span<const std::byte> data, Bits exponent) {
  constexpr Bits kAllButSign = static_cast<Bits>(~Bits{0}) >> 1;
  Bits greatest = 0;
  for (std::size_t i = 0; i + sizeof(Bits) <= data.size(); i += sizeof(Bits)) {
    const auto bits = static_cast<Bits>(load<Bits>(data.data() + i) & kAllButSign);
    greatest = std::max(greatest, bits);
  }
  return greatest < exponent;
}

[[gnu::always_inline]] inline bool finite_elements(TensorType type,
                                                   std::span<const std::byte> data) {
  switch (type) {
    case TensorType::kF32:
      return none_special<std::uint32_t>(data, kFloatExponent);
    case TensorType::kF16:
      return none_special<std::uint16_t>(data, kHalfExponent);
    case TensorType::kBf16:
      return none_special<std::uint16_t>(data, 0x7f80u);
    case TensorType::kI8:
      return true;
  }
  return true;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) bool finite_elements_avx2(TensorType type,
                                                          std::span<const std::byte> data) {
  return finite_elements(type, data);
}

__attribute__((target("avx512f,avx512bw"))) bool finite_elements_avx512(
    TensorType type, std::span<const std::byte> data) {
  return finite_elements(type, data);
}

using FiniteElements = bool (*)(TensorType, std::span<const std::byte>);

FiniteElements best_finite_elements() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) {
    return finite_elements_avx512;
  }
  if (__builtin_cpu_supports("avx2")) return finite_elements_avx2;
  return
      [](TensorType type, std::span<const std::byte> data) { return finite_elements(type, data); };
}
#endif

}  // namespace

void to_floats(TensorType type, std::span<const std::byte> data, std::size_t begin,
               std::span<float> out) {
  const std::size_t bytes = tensor_type_bytes(type);
  SPLITEE_CHECK((begin + out.size()) * bytes <= data.size());
  if (out.empty()) return;
  const std::byte* from = data.data() + begin * bytes;
  switch (type) {
    case TensorType::kF32:
      std::memcpy(out.data(), from, out.size_bytes());
      return;
    case TensorType::kF16:
      for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = from_half(load<std::uint16_t>(from + 2 * i));
      }
      return;
    case TensorType::kBf16:
      for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = from_bfloat(load<std::uint16_t>(from + 2 * i));
      }
      return;
    case TensorType::kI8:
      for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = static_cast<float>(load<std::int8_t>(from + i));
      }
      return;
  }
}

bool all_finite(TensorType type, std::span<const std::byte> data) {
#if defined(__x86_64__)
  static const FiniteElements best = best_finite_elements();
  return best(type, data);
#else
  return finite_elements(type, data);
#endif
}

}  // namespace splitee::runtime

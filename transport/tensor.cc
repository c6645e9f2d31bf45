// The tensors inside infer messages: f32, f16, int8 per row, token ids.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "transport/checksum.h"
#include "transport/wire.h"

namespace splitee::transport {
namespace {

using runtime::Code;
using runtime::Status;

// Bytes that stay in the first-level cache between two uses.
constexpr std::size_t kBlockBytes = 8'192;
static_assert(kBlockBytes % PayloadChecksum::kGroupBytes == 0);

constexpr float kMaxHalf = 65504.0f;
constexpr float kMaxCode = 127.0f;
constexpr std::uint32_t kExponentBits = 0x7f800000u;
constexpr std::uint32_t kExponentOne = 0x00800000u;

bool bytes_are_finite(const std::byte* bytes, std::size_t count) {
  // An exponent of all ones carries into the sign bit when one is added. Unlike a comparison or a
  // maximum, that vectorises with every instruction set.
  std::uint32_t carries = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t value;
    std::memcpy(&value, bytes + i * sizeof value, sizeof value);
    carries |= (value & kExponentBits) + kExponentOne;
  }
  return (carries >> 31) == 0;
}

// Rounds to nearest, ties to even. |value| <= kMaxHalf. Without branches, for the vectoriser.
inline std::uint16_t to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // Normal halves: move the exponent's bias from 127 to 15, round at bit 13.
  const std::uint32_t normal =
      (magnitude - ((127u - 15u) << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Subnormal halves are multiples of 2^-24: adding 0.5 aligns their last bit with a float's.
  const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(aligned) - 0x3f000000u;
  const bool is_normal = magnitude >= ((127u - 14u) << 23);
  return static_cast<std::uint16_t>(sign | (is_normal ? normal : subnormal));
}

// Infinities and NaN become values above kMaxHalf, which the caller refuses.
inline float from_half(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t magnitude = half & 0x7fffu;
  const float normal = std::bit_cast<float>((magnitude << 13) + ((127u - 15u) << 23));
  const float subnormal = std::bit_cast<float>(magnitude | 0x3f000000u) - 0.5f;
  const float value = magnitude >= 0x400u ? normal : subnormal;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
}

void write_half(std::span<const float> values, std::span<std::byte> out) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t half = to_half(std::clamp(values[i], -kMaxHalf, kMaxHalf));
    std::memcpy(out.data() + i * sizeof half, &half, sizeof half);
  }
}

void write_row_i8(std::span<const float> row, std::byte* scale_out, std::byte* out) {
  float largest = 0;
  for (const float value : row) largest = std::max(largest, std::abs(value));
  float scale = largest / kMaxCode;
  // Below this the reciprocal overflows; such a row is zero for every purpose.
  if (scale < std::numeric_limits<float>::min()) scale = 0;
  const float factor = scale > 0 ? 1.0f / scale : 0.0f;
  std::memcpy(scale_out, &scale, sizeof scale);
  for (std::size_t i = 0; i < row.size(); ++i) {
    const float scaled = std::clamp(row[i] * factor, -kMaxCode, kMaxCode);
    out[i] = static_cast<std::byte>(static_cast<int>(scaled + std::copysign(0.5f, scaled)));
  }
}

Status wrong_checksum() {
  return {Code::kCorrupt, "checksum"};
}

Status not_finite() {
  return {Code::kCorrupt, "activation is not finite"};
}

// Calls body(begin, count) for blocks of `total` floats.
template <class Body>
void for_blocks(std::size_t total, const Body& body) {
  constexpr std::size_t kBlock = kBlockBytes / sizeof(float);
  for (std::size_t begin = 0; begin < total; begin += kBlock) {
    body(begin, std::min(kBlock, total - begin));
  }
}

Status read_float(const Infer& infer, std::span<float> out) {
  PayloadChecksum checksum;
  checksum.add(infer.payload, std::as_writable_bytes(out).data());
  if (checksum.value() != infer.checksum) return wrong_checksum();
  return checksum.finite() ? Status() : not_finite();
}

Status read_half(const Infer& infer, std::span<float> out) {
  float largest = 0;
  PayloadChecksum checksum;
  for_blocks(out.size(), [&](std::size_t begin, std::size_t block) {
    const std::byte* in = infer.payload.data() + begin * sizeof(std::uint16_t);
    checksum.add({in, block * sizeof(std::uint16_t)});
    for (std::size_t i = 0; i < block; ++i) {
      std::uint16_t half;
      std::memcpy(&half, in + i * sizeof half, sizeof half);
      out[begin + i] = from_half(half);
      largest = std::max(largest, std::abs(out[begin + i]));
    }
  });
  if (checksum.value() != infer.checksum) return wrong_checksum();
  return largest <= kMaxHalf ? Status() : not_finite();
}

Status read_i8(const Infer& infer, std::span<float> out) {
  if (payload_checksum(infer.payload) != infer.checksum) return wrong_checksum();
  const std::byte* codes = infer.payload.data() + sizeof(float) * infer.tokens;
  int lowest = 0;
  for (std::size_t r = 0; r < infer.tokens; ++r) {
    float scale;
    std::memcpy(&scale, infer.payload.data() + r * sizeof scale, sizeof scale);
    if (!(scale >= 0 && scale <= std::numeric_limits<float>::max() / kMaxCode)) {
      return {Code::kCorrupt, "scale of an int8 row"};
    }
    const std::byte* row = codes + r * infer.hidden;
    float* row_out = out.data() + r * infer.hidden;
    for (std::size_t i = 0; i < infer.hidden; ++i) {
      const int code = static_cast<std::int8_t>(row[i]);
      lowest = std::min(lowest, code);
      row_out[i] = scale * static_cast<float>(code);
    }
  }
  return lowest >= -127 ? Status() : Status{Code::kCorrupt, "int8 code -128"};
}

}  // namespace

std::string_view to_string(Dtype dtype) {
  switch (dtype) {
    case Dtype::kNone:
      return "none";
    case Dtype::kF32:
      return "f32";
    case Dtype::kF16:
      return "f16";
    case Dtype::kI8:
      return "i8";
    case Dtype::kTokens:
      return "tokens";
  }
  return "unknown";
}

std::optional<Dtype> activation_dtype(std::string_view name) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kI8}) {
    if (name == to_string(dtype)) return dtype;
  }
  return std::nullopt;
}

std::uint64_t infer_payload_bytes(Dtype dtype, std::uint64_t tokens, std::uint64_t hidden) {
  if (tokens == 0 || tokens > kMaxTokens || hidden > kMaxHidden) return 0;
  if ((hidden == 0) != (dtype == Dtype::kTokens)) return 0;
  const std::uint64_t values = tokens * hidden;
  std::uint64_t bytes = 0;
  switch (dtype) {
    case Dtype::kNone:
      break;
    case Dtype::kF32:
      bytes = 4 * values;
      break;
    case Dtype::kF16:
      bytes = 2 * values;
      break;
    case Dtype::kI8:
      bytes = 4 * tokens + values;
      break;
    case Dtype::kTokens:
      bytes = 5 * tokens;
      break;
  }
  return bytes <= kMaxPayloadBytes ? bytes : 0;
}

bool all_finite(std::span<const float> values) {
  return bytes_are_finite(std::as_bytes(values).data(), values.size());
}

std::optional<std::uint64_t> write_activation(const Infer& infer, std::span<const float> activation,
                                              std::span<std::byte> out) {
  SPLITEE_CHECK(activation.size() == std::size_t{infer.tokens} * infer.hidden);
  SPLITEE_CHECK(out.size() == infer_payload_bytes(infer.dtype, infer.tokens, infer.hidden));
  if (infer.dtype == Dtype::kF32) {
    PayloadChecksum checksum;
    checksum.add(std::as_bytes(activation), out.data());
    if (!checksum.finite()) return std::nullopt;
    return checksum.value();
  }
  if (!all_finite(activation)) return std::nullopt;
  if (infer.dtype == Dtype::kF16) {
    write_half(activation, out);
  } else {
    for (std::size_t r = 0; r < infer.tokens; ++r) {
      write_row_i8(activation.subspan(r * infer.hidden, infer.hidden),
                   out.data() + r * sizeof(float),
                   out.data() + infer.tokens * sizeof(float) + r * infer.hidden);
    }
  }
  return payload_checksum(out);
}

Status read_activation(const Infer& infer, std::span<float> out) {
  SPLITEE_CHECK(out.size() == std::size_t{infer.tokens} * infer.hidden);
  switch (infer.dtype) {
    case Dtype::kF32:
      return read_float(infer, out);
    case Dtype::kF16:
      return read_half(infer, out);
    case Dtype::kI8:
      return read_i8(infer, out);
    case Dtype::kTokens:
    case Dtype::kNone:
      break;
  }
  return {Code::kInvalidArgument, "infer without an activation"};
}

std::optional<std::span<const float>> view_activation(const Infer& infer) {
  const auto address = reinterpret_cast<std::uintptr_t>(infer.payload.data());
  if (infer.dtype != Dtype::kF32 || address % alignof(float) != 0) return std::nullopt;
  return std::span(reinterpret_cast<const float*>(address), infer.payload.size() / sizeof(float));
}

Status check_view(const Infer& infer, std::span<const float> view) {
  PayloadChecksum checksum;
  checksum.add(std::as_bytes(view));
  if (checksum.value() != infer.checksum) return wrong_checksum();
  return checksum.finite() ? Status() : not_finite();
}

Status read_tokens(const Infer& infer, std::span<std::int32_t> ids, std::span<std::int32_t> types) {
  SPLITEE_CHECK(ids.size() == infer.tokens && types.size() == infer.tokens);
  if (infer.dtype != Dtype::kTokens) return {Code::kInvalidArgument, "infer without token ids"};
  if (payload_checksum(infer.payload) != infer.checksum) return wrong_checksum();
  std::memcpy(ids.data(), infer.payload.data(), ids.size_bytes());
  for (std::size_t i = 0; i < types.size(); ++i) {
    types[i] = std::to_integer<std::int32_t>(infer.payload[ids.size_bytes() + i]);
  }
  const bool negative = std::any_of(ids.begin(), ids.end(), [](std::int32_t id) { return id < 0; });
  return negative ? Status{Code::kCorrupt, "token id"} : Status();
}

}  // namespace splitee::transport

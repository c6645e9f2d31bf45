// The tensors inside infer messages: f32, f16, int8 per row; and inputs.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/floats.h"
#include "transport/wire/checksum.h"
#include "transport/wire/wire.h"

namespace splitee::transport {
namespace {

// Bytes that stay in the first-level cache between two uses.
constexpr std::size_t kBlockBytes = 8'192;
static_assert(kBlockBytes % PayloadChecksum::kGroupBytes == 0);

constexpr float kMaxCode = 127.0f;

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
  std::uint32_t special = 0;
  PayloadChecksum checksum;
  for_blocks(out.size(), [&](std::size_t begin, std::size_t block) {
    const std::byte* in = infer.payload.data() + begin * sizeof(std::uint16_t);
    checksum.add({in, block * sizeof(std::uint16_t)});
    for (std::size_t i = 0; i < block; ++i) {
      std::uint16_t half;
      std::memcpy(&half, in + i * sizeof half, sizeof half);
      out[begin + i] = from_half(half);
      special |= half_is_special(half) ? 1u : 0u;
    }
  });
  if (checksum.value() != infer.checksum) return wrong_checksum();
  return special == 0 ? Status() : not_finite();
}

Status read_i8(const Infer& infer, std::span<float> out) {
  if (payload_checksum(infer.payload) != infer.checksum) return wrong_checksum();
  const std::byte* codes = infer.payload.data() + sizeof(float) * infer.rows;
  int lowest = 0;
  for (std::size_t r = 0; r < infer.rows; ++r) {
    float scale;
    std::memcpy(&scale, infer.payload.data() + r * sizeof scale, sizeof scale);
    if (!(scale >= 0 && scale <= std::numeric_limits<float>::max() / kMaxCode)) {
      return {Code::kCorrupt, "scale of an int8 row"};
    }
    const std::byte* row = codes + r * infer.cols;
    float* row_out = out.data() + r * infer.cols;
    for (std::size_t i = 0; i < infer.cols; ++i) {
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
    case Dtype::kInput:
      return "input";
  }
  return "unknown";
}

std::optional<Dtype> activation_dtype(std::string_view name) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kI8}) {
    if (name == to_string(dtype)) return dtype;
  }
  return std::nullopt;
}

std::uint64_t activation_bytes(Dtype dtype, std::uint64_t rows, std::uint64_t cols) {
  if (rows == 0 || rows > kMaxRows || cols == 0 || cols > kMaxCols) return 0;
  const std::uint64_t values = rows * cols;
  std::uint64_t bytes = 0;
  switch (dtype) {
    case Dtype::kNone:
    case Dtype::kInput:
      break;
    case Dtype::kF32:
      bytes = 4 * values;
      break;
    case Dtype::kF16:
      bytes = 2 * values;
      break;
    case Dtype::kI8:
      bytes = 4 * rows + values;
      break;
  }
  return bytes <= kMaxPayloadBytes ? bytes : 0;
}

std::optional<std::uint64_t> write_activation(const Infer& infer, std::span<const float> activation,
                                              std::span<std::byte> out) {
  SPLITEE_CHECK(activation.size() == std::size_t{infer.rows} * infer.cols);
  SPLITEE_CHECK(out.size() == activation_bytes(infer.dtype, infer.rows, infer.cols));
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
    for (std::size_t r = 0; r < infer.rows; ++r) {
      write_row_i8(activation.subspan(r * infer.cols, infer.cols), out.data() + r * sizeof(float),
                   out.data() + infer.rows * sizeof(float) + r * infer.cols);
    }
  }
  return payload_checksum(out);
}

Status read_activation(const Infer& infer, std::span<float> out) {
  SPLITEE_CHECK(out.size() == std::size_t{infer.rows} * infer.cols);
  switch (infer.dtype) {
    case Dtype::kF32:
      return read_float(infer, out);
    case Dtype::kF16:
      return read_half(infer, out);
    case Dtype::kI8:
      return read_i8(infer, out);
    case Dtype::kInput:
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

Status check_input(const Infer& infer) {
  if (infer.dtype != Dtype::kInput) return {Code::kInvalidArgument, "infer without an input"};
  return payload_checksum(infer.payload) == infer.checksum ? Status() : wrong_checksum();
}

}  // namespace splitee::transport

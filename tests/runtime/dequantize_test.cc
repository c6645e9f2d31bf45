#include "runtime/file/dequantize.h"

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/runtime/model_builder.h"

using namespace splitee;
using namespace splitee::runtime;
using splitee::runtime::testing::raw;
using splitee::testing::as_bytes;

namespace {

float one(TensorType type, const std::string& bytes) {
  float value = -77;
  to_floats(type, as_bytes(bytes), 0, {&value, 1});
  return value;
}

// IEEE 754 binary16 by its definition.
double half_value(unsigned bits) {
  const unsigned exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double sign = (bits & 0x8000u) != 0 ? -1 : 1;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, static_cast<int>(exponent) - 25);
}

}  // namespace

TEST_CASE("to_floats: every f16 value") {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const float value = one(TensorType::kF16, raw(static_cast<std::uint16_t>(bits)));
    const bool special = (bits >> 10 & 31) == 31;
    const bool good = special ? !std::isfinite(value) && std::isnan(value) == ((bits & 1023) != 0)
                              : static_cast<double>(value) == half_value(bits);
    const bool same_sign = std::signbit(value) == ((bits & 0x8000u) != 0);
    if (!good || !same_sign) FAIL("f16 bits " << bits << " became " << value);
  }
}

TEST_CASE("to_floats: bf16, f32 and i8") {
  CHECK(one(TensorType::kBf16, raw<std::uint16_t>(0x3f80)) == 1.0f);
  CHECK(one(TensorType::kBf16, raw<std::uint16_t>(0xc049)) == -3.140625f);
  CHECK(std::isinf(one(TensorType::kBf16, raw<std::uint16_t>(0x7f80))));
  CHECK(one(TensorType::kF32, raw(0.1f)) == 0.1f);
  for (int i = -128; i < 128; ++i) {
    CHECK(one(TensorType::kI8, raw(static_cast<std::int8_t>(i))) == static_cast<float>(i));
  }
}

TEST_CASE("to_floats: starts at the element asked for, at any address") {
  const std::string bytes = "?" + raw(1.5f) + raw(2.5f) + raw(3.5f) + raw(4.5f);
  std::vector<float> out(2, 0);
  to_floats(TensorType::kF32, as_bytes(bytes).subspan(1), 1, out);
  CHECK(out == std::vector<float>{2.5f, 3.5f});
}

TEST_CASE("all_finite: one bad value anywhere is found") {
  CHECK(all_finite({}));
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {kInfinity, -kInfinity, std::nanf("")}) {
    for (std::size_t at = 0; at < 37; ++at) {
      std::vector<float> values(37, std::numeric_limits<float>::max());
      CHECK(all_finite(values));
      values[at] = bad;
      CHECK_FALSE(all_finite(values));
    }
  }
}

TEST_CASE("all_finite: by type, a special value at every place") {
  const std::vector<std::pair<TensorType, std::pair<std::string, std::string>>> types = {
      {TensorType::kF32, {raw(std::numeric_limits<float>::max()), raw(std::nanf(""))}},
      {TensorType::kF32, {raw(-1e-42f), raw(-std::numeric_limits<float>::infinity())}},
      {TensorType::kF16, {raw<std::uint16_t>(0xfbff), raw<std::uint16_t>(0xfc00)}},
      {TensorType::kF16, {raw<std::uint16_t>(0x7bff), raw<std::uint16_t>(0x7c01)}},
      {TensorType::kBf16, {raw<std::uint16_t>(0x7f7f), raw<std::uint16_t>(0x7f80)}},
      {TensorType::kBf16, {raw<std::uint16_t>(0x0001), raw<std::uint16_t>(0xffff)}}};
  for (const auto& [type, values] : types) {
    const auto& [good, bad] = values;
    std::string bytes;
    for (int i = 0; i < 37; ++i) bytes += good;
    CHECK(all_finite(type, as_bytes(bytes)));
    const std::string shifted = "x" + bytes;
    CHECK(all_finite(type, as_bytes(shifted).subspan(1)));
    for (std::size_t at = 0; at < bytes.size(); at += bad.size()) {
      std::string one = bytes;
      one.replace(at, bad.size(), bad);
      CAPTURE(at);
      CHECK_FALSE(all_finite(type, as_bytes(one)));
    }
  }
  const std::string bytes(9, '\x80');
  CHECK(all_finite(TensorType::kI8, as_bytes(bytes)));
}

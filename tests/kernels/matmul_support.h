// Matrix products in every arithmetic of a target, and what they are to give, computed from the
// definitions in kernels.h alone: the integer part in int64, the rest in double.
#pragma once

#include <algorithm>
#include <bit>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "tests/kernels/support.h"

namespace splitee::kernels::testing {

struct Arithmetic {
  std::string name;
  Matmul Kernels::*matmul;
  std::size_t weight_bytes;
};
inline const Arithmetic kF32 = {"f32", &Kernels::f32, sizeof(float)};
inline const Arithmetic kBf16 = {"bf16", &Kernels::bf16, sizeof(std::uint16_t)};
inline const Arithmetic kI8 = {"i8", &Kernels::i8, sizeof(std::int8_t)};

template <class Test>
void for_each_matmul(const Test& test) {
  for_each_target([&](const Kernels& kernels) {
    for (const Arithmetic* arithmetic : {&kF32, &kBf16, &kI8}) {
      CAPTURE(arithmetic->name);
      test(kernels.*arithmetic->matmul, *arithmetic);
    }
  });
}

// bfloat16 by the definition: of the two neighbours, the nearer one, else the even one.
inline std::uint16_t nearest_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto down = static_cast<std::uint16_t>(bits >> 16);
  if (std::isnan(value)) return 0x7fc0;
  if (std::isinf(value)) return down;
  const std::uint32_t rest = bits & 0xffffu;
  const bool up = rest > 0x8000u || (rest == 0x8000u && (down & 1) != 0);
  return static_cast<std::uint16_t>(down + (up ? 1 : 0));
}
inline float widen(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// W (n, k) as a model file stores it, and its values.
struct Weights {
  std::vector<std::byte> stored;
  std::vector<float> scales;  // i8: one per row
  Matrix values;              // i8: the integers, without their scales
};

inline Weights make_weights(const Arithmetic& arithmetic, std::size_t n, std::size_t k,
                            Random& random, float low = -1.0f, float high = 1.0f) {
  Weights w = {std::vector<std::byte>(n * k * arithmetic.weight_bytes), {}, Matrix(n, k, k)};
  w.values.fill(random, low, high);
  for (std::size_t r = 0; r < n; ++r) {
    if (&arithmetic == &kI8) w.scales.push_back(random.uniform(0.001f, 0.1f));
    for (std::size_t i = 0; i < k; ++i) {
      float& value = w.values.at(r, i);
      std::byte* to = w.stored.data() + (r * k + i) * arithmetic.weight_bytes;
      if (&arithmetic == &kI8) {
        value = std::clamp(std::floor(value * 128.0f), -128.0f, 127.0f);
        *to = static_cast<std::byte>(static_cast<std::int8_t>(value));
      } else if (&arithmetic == &kBf16) {
        const std::uint16_t bits = nearest_bfloat16(value);
        std::memcpy(to, &bits, sizeof bits);
        value = widen(bits);
      } else {
        std::memcpy(to, &value, sizeof value);
      }
    }
  }
  return w;
}

// Changes one value, to one that the stored type has.
inline void set_weight(const Arithmetic& arithmetic, Weights& w, std::size_t r, std::size_t i,
                       float value) {
  std::byte* to = w.stored.data() + (r * w.values.cols() + i) * arithmetic.weight_bytes;
  w.values.at(r, i) = value;
  if (&arithmetic == &kI8) {
    *to = static_cast<std::byte>(static_cast<std::int8_t>(value));
  } else if (&arithmetic == &kBf16) {
    const std::uint16_t bits = nearest_bfloat16(value);
    std::memcpy(to, &bits, sizeof bits);
  } else {
    std::memcpy(to, &value, sizeof value);
  }
}

// Bytes with guard bytes on both sides, `offset` past a multiple of 64.
class Bytes {
 public:
  explicit Bytes(std::size_t size, std::size_t offset = 0)
      : size_(size), bytes_(size + 3 * kGuard, kFill) {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data() + kGuard);
    start_ = kGuard + (kGuard - address % kGuard) % kGuard + offset;
  }
  Bytes(const Bytes&) = delete;
  std::byte* data() { return bytes_.data() + start_; }
  const std::byte* data() const { return bytes_.data() + start_; }
  std::size_t size() const { return size_; }
  bool guards_intact() const {
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      if ((i < start_ || i >= start_ + size_) && bytes_[i] != kFill) return false;
    }
    return true;
  }
  bool same_bits(const Bytes& other) const {
    return size_ == other.size_ && std::memcmp(data(), other.data(), size_) == 0;
  }

 private:
  static constexpr std::size_t kGuard = 64;
  static constexpr std::byte kFill{0xa5};
  std::size_t size_;
  std::size_t start_ = 0;
  std::vector<std::byte> bytes_;
};

// Bytes up to the end of what may be read.
class LastBytes {
 public:
  explicit LastBytes(std::size_t size)
      : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))), pages_((size + page_ - 1) / page_) {
    begin_ = mmap(nullptr, (pages_ + 1) * page_, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(begin_ != MAP_FAILED);
    std::byte* end = static_cast<std::byte*>(begin_) + pages_ * page_;
    REQUIRE(mprotect(end, page_, PROT_NONE) == 0);
    data_ = end - size;
  }
  LastBytes(const LastBytes&) = delete;
  ~LastBytes() { munmap(begin_, (pages_ + 1) * page_); }
  std::byte* data() { return data_; }

 private:
  std::size_t page_, pages_;
  void* begin_ = nullptr;
  std::byte* data_ = nullptr;
};

// W packed at once, rows of A prepared at once; both at an offset of 4 * `offset` bytes.
inline std::unique_ptr<Bytes> pack_all(const Matmul& matmul, const Weights& w,
                                       std::size_t offset = 0) {
  const std::size_t n = w.values.rows(), k = w.values.cols();
  auto packed = std::make_unique<Bytes>(matmul.packed_bytes(n, k), 4 * offset);
  matmul.pack_rows(w.stored.data(), w.scales.data(), 0, n, n, k, packed->data());
  CHECK(packed->guards_intact());
  return packed;
}
inline std::unique_ptr<Bytes> prepare_all(const Matmul& matmul, const Matrix& a,
                                          std::size_t offset = 0) {
  if (matmul.prepare == nullptr) return nullptr;
  auto prepared = std::make_unique<Bytes>(a.rows() * matmul.prepared_bytes(a.cols()), 4 * offset);
  matmul.prepare(a.data(), a.stride(), nullptr, a.rows(), a.cols(), prepared->data());
  CHECK(prepared->guards_intact());
  return prepared;
}

// C = epilogue(A W^T + bias), all columns; `prepared` is null where A is taken as it is.
inline MatmulArgs product(const Matmul& matmul, const Matrix& a, const Bytes* prepared,
                          const Bytes& packed, const Matrix* bias, Matrix& c) {
  return {.a = prepared == nullptr ? static_cast<const void*>(a.data()) : prepared->data(),
          .a_stride_bytes =
              prepared == nullptr ? a.stride() * sizeof(float) : matmul.prepared_bytes(a.cols()),
          .packed = packed.data(),
          .bias = bias == nullptr ? nullptr : bias->data(),
          .c = c.data(),
          .c_stride = c.stride(),
          .m = a.rows(),
          .n = c.cols(),
          .k = a.cols(),
          .n_begin = 0,
          .n_end = c.cols()};
}

inline void multiply(const Matmul& matmul, const Matrix& a, const Weights& w, const Matrix* bias,
                     Matrix& c, Epilogue epilogue = Epilogue::kNone, std::size_t offset = 0) {
  const auto packed = pack_all(matmul, w, offset);
  const auto prepared = prepare_all(matmul, a, offset);
  MatmulArgs args = product(matmul, a, prepared.get(), *packed, bias, c);
  args.epilogue = epilogue;
  matmul.multiply(args);
}

// What a row of A stands for.
struct Row {
  std::vector<double> values;  // i8: the integers
  float scale = 1.0f;
};
inline Row meaning_of_row(const Arithmetic& arithmetic, const Matrix& a, std::size_t r) {
  Row row;
  float largest = 0.0f;
  bool finite = true;
  for (std::size_t i = 0; i < a.cols(); ++i) {
    finite = finite && std::isfinite(a.at(r, i));
    largest = std::max(largest, std::fabs(a.at(r, i)));
  }
  const bool zero = !finite || largest < 1e-30f;
  const float inverse = zero ? 0.0f : 127.0f / largest;
  if (&arithmetic == &kI8) row.scale = !finite ? kNan : zero ? 0.0f : largest / 127.0f;
  for (std::size_t i = 0; i < a.cols(); ++i) {
    float value = a.at(r, i);
    if (&arithmetic == &kBf16) value = widen(nearest_bfloat16(value));
    if (&arithmetic == &kI8) value = zero ? 0.0f : std::nearbyint(value * inverse);
    row.values.push_back(static_cast<double>(value));
  }
  return row;
}

// The i8 result for an exact sum; volatile, so that no compiler fuses the steps.
inline float scaled(double sum, float scale_w, float scale_a, const float* bias) {
  volatile float value = static_cast<float>(sum);
  value = value * scale_w;
  value = value * scale_a;
  if (bias != nullptr) value = value + *bias;
  return value;
}

inline double activated(Epilogue epilogue, double x) {
  constexpr double kPi = 3.14159265358979323846;
  // The limit, where the formula has infinity times 0.
  const bool gated = epilogue == Epilogue::kGeluTanh || epilogue == Epilogue::kSilu;
  if (gated && std::isinf(x) && x < 0.0) return 0.0;
  switch (epilogue) {
    case Epilogue::kNone:
      break;
    case Epilogue::kGelu:
      return x * 0.5 * (1.0 + std::erf(x * std::sqrt(0.5)));
    case Epilogue::kGeluTanh:
      return x * 0.5 * (1.0 + std::tanh(std::sqrt(2.0 / kPi) * (x + 0.044715 * x * x * x)));
    case Epilogue::kRelu:
      return x < 0.0 ? 0.0 : x;  // NaN stays
    case Epilogue::kSilu:
      return x / (1.0 + std::exp(-x));
    case Epilogue::kRelu6:
      return x < 0.0 ? 0.0 : x > 6.0 ? 6.0 : x;
    case Epilogue::kHardSwish:
      return x <= -3.0 ? 0.0 : x >= 3.0 ? x : x * (x + 3.0) / 6.0;
  }
  return x;
}

// One product in three has one of the activations.
inline Epilogue random_epilogue(Random& random) {
  constexpr Epilogue kAll[] = {Epilogue::kGelu, Epilogue::kGeluTanh, Epilogue::kRelu,
                               Epilogue::kSilu, Epilogue::kRelu6,    Epilogue::kHardSwish};
  return random.below(3) == 0 ? kAll[random.below(std::size(kAll))] : Epilogue::kNone;
}

// Elements of C that are not what they should be: i8 without GELU exactly, the others within the
// roundings of a sum.
inline std::size_t wrong_elements(const Arithmetic& arithmetic, const Matrix& a, const Weights& w,
                                  const Matrix* bias, const Matrix& c, Epilogue epilogue) {
  const std::size_t k = a.cols();
  std::size_t wrong = 0;
  for (std::size_t r = 0; r < a.rows(); ++r) {
    const Row row = meaning_of_row(arithmetic, a, r);
    for (std::size_t n = 0; n < c.cols(); ++n) {
      double sum = 0.0, size = 0.0;  // of integers below 2^53: exact
      for (std::size_t i = 0; i < k; ++i) {
        const double product = row.values[i] * static_cast<double>(w.values.at(n, i));
        sum += product;
        size += std::fabs(product);
      }
      double tolerance = 0.0;
      if (&arithmetic == &kI8) {
        sum = static_cast<double>(
            scaled(sum, w.scales[n], row.scale, bias == nullptr ? nullptr : bias->data() + n));
      } else {
        if (bias != nullptr) sum += static_cast<double>(bias->at(0, n));
        if (bias != nullptr) size += std::fabs(static_cast<double>(bias->at(0, n)));
        tolerance = (10.0 + std::sqrt(static_cast<double>(k))) * kEpsilon * size;
      }
      const bool steps = epilogue == Epilogue::kRelu || epilogue == Epilogue::kRelu6;
      if (epilogue != Epilogue::kNone && !steps) {
        // GELU: x / 2 times what erf and the sum with 1, which is rounded at the size of 1, are
        // off.
        tolerance = 1.13 * tolerance + 3.0 * kEpsilon * std::max(1.0, std::fabs(sum));
      }
      sum = activated(epilogue, sum);
      if (!close(static_cast<double>(c.at(r, n)), sum, tolerance)) ++wrong;
    }
  }
  return wrong;
}

// The bytes of a byte map and the units that they stand for. A byte is q in the form that prepared
// rows have: as a row of zeros shows, plus q.
class UnitForm {
 public:
  explicit UnitForm(const Matmul& i8) : zero_(i8.byte_zero) {
    Bytes row(i8.prepared_bytes(1));
    const float nothing = 0.0f;
    i8.prepare(&nothing, 1, nullptr, 1, 1, row.data());
    form_ = static_cast<int>(row.data()[i8.head_bytes]);
  }
  std::byte byte(int units) const { return static_cast<std::byte>(units - zero_ + form_); }
  int units(std::byte byte) const {
    return static_cast<std::int8_t>(static_cast<int>(byte) - form_) + zero_;
  }

 private:
  int zero_, form_ = 0;
};

// Of the product of `a` as a fixed map, values that are not the rounded result of kRelu6; the
// columns are computed in two parts that meet at `cut` panels. One more where a guard is not
// intact.
inline std::size_t wrong_fixed(const Matmul& i8, const Matrix& a, const Weights& w,
                               const Matrix& bias, std::size_t cut, std::size_t offset) {
  const std::size_t n = w.values.rows();
  Matrix unused(1, n, n);
  const auto packed = pack_all(i8, w);
  const auto prepared = prepare_all(i8, a);
  Bytes found(a.rows() * n * sizeof(std::uint16_t), 2 * offset);
  MatmulArgs args = product(i8, a, prepared.get(), *packed, &bias, unused);
  args.c = nullptr;
  args.c_stride = 0;
  args.fixed = static_cast<std::uint16_t*>(static_cast<void*>(found.data()));
  args.epilogue = Epilogue::kRelu6;
  args.n_end = std::min(n, cut * i8.columns);
  if (args.n_end > 0) i8.multiply(args);
  args.n_begin = std::exchange(args.n_end, n);
  if (args.n_begin < n) i8.multiply(args);
  std::size_t wrong = found.guards_intact() ? 0 : 1;
  for (std::size_t r = 0; r < a.rows(); ++r) {
    const Row row = meaning_of_row(kI8, a, r);
    for (std::size_t i = 0; i < n; ++i) {
      double sum = 0.0;
      for (std::size_t j = 0; j < a.cols(); ++j) {
        sum += row.values[j] * static_cast<double>(w.values.at(i, j));
      }
      const float fixed_bias = bias.at(0, i) * kFixedOfOne;
      const float x = scaled(sum, w.scales[i], row.scale * kFixedOfOne, &fixed_bias);
      const float expected = !(x > 0.0f) ? 0.0f : std::nearbyint(std::min(x, kFixedSteps));
      if (static_cast<float>(args.fixed[r * n + i]) != expected) ++wrong;
    }
  }
  return wrong;
}

// Elements of the product of a byte map (m, k) of any units that are wrong.
inline std::size_t wrong_of_bytes(const Matmul& i8, std::size_t m, const Weights& w,
                                  const Matrix& bias, Random& random) {
  const std::size_t n = w.values.rows(), k = w.values.cols();
  const UnitForm form(i8);
  Bytes map(m * k, random.below(kMaxLanes)), head(i8.prepared_bytes(1));
  for (std::size_t i = 0; i < m * k; ++i) {
    const int extreme = random.below(2) == 0 ? 0 : static_cast<int>(kByteSteps);
    map.data()[i] = form.byte(random.below(4) == 0 ? extreme : static_cast<int>(random.below(255)));
  }
  const float value = 127.0f * (6.0f / kByteSteps);
  i8.prepare(&value, 1, nullptr, 1, 1, head.data());
  const auto packed = pack_all(i8, w);
  Matrix c(m, n, n);
  i8.multiply({.a = map.data(),
               .a_stride_bytes = k,
               .packed = packed->data(),
               .bias = bias.data(),
               .c = c.data(),
               .c_stride = n,
               .m = m,
               .n = n,
               .k = k,
               .n_begin = 0,
               .n_end = n,
               .head = head.data()});
  std::size_t wrong = c.guards_intact() ? 0 : 1;
  for (std::size_t r = 0; r < m; ++r) {
    for (std::size_t i = 0; i < n; ++i) {
      double sum = 0.0;
      for (std::size_t j = 0; j < k; ++j) {
        sum += (form.units(map.data()[r * k + j]) - i8.byte_zero) *
               static_cast<double>(w.values.at(i, j));
      }
      if (c.at(r, i) != scaled(sum, w.scales[i], value / 127.0f, bias.data() + i)) ++wrong;
    }
  }
  return wrong;
}

}  // namespace splitee::kernels::testing

// int8 and bfloat16 by ARM's matrix instructions, SMMLA and BFMMLA: two rows of A by two of W, each
// with 8 or 4 values, added to 2 x 2 sums.
#pragma once

#include "kernels/simd/bf16-inl.h"
#include "kernels/simd/i8_neon-inl.h"

namespace splitee::kernels {
namespace {

// Cells of four columns; sums of two rows and four columns. `low` has columns 0 and 1, in each row
// by row.
struct ColumnPairs {
  int8x16_t low, high;
};
template <class Register>
struct PairSums {
  Register low, high;
};

// What both arithmetics share: 8 bytes of a row are a step.
struct Mmla {
  static constexpr std::size_t kCell = 8, kLeft = 8, kRowsOfSum = 2;
  using Left = int8x16_t;
  using Right = ColumnPairs;
  static Left left(const std::byte* p, const std::byte* q) {
    const int8x16_t first = vcombine_s8(vld1_s8(bytes_at(p)), vdup_n_s8(0));
    return vreinterpretq_s8_s64(
        vld1q_lane_s64(static_cast<const std::int64_t*>(static_cast<const void*>(q)),
                       vreinterpretq_s64_s8(first), 1));
  }
  static Right right(const std::byte* b) {
    return {vld1q_s8(bytes_at(b)), vld1q_s8(bytes_at(b + 16))};
  }

 private:
  static const std::int8_t* bytes_at(const std::byte* p) {
    return static_cast<const std::int8_t*>(static_cast<const void*>(p));
  }
};

template <std::size_t kRowsOfTile, std::size_t kVectorsOfTile, std::size_t kStepsOfBlock>
struct I8Mmla : I8NeonRows, Mmla {
  static constexpr std::size_t kRows = kRowsOfTile, kVectors = kVectorsOfTile;
  static constexpr std::size_t kBlock = kStepsOfBlock, kDepth = 8;
  static constexpr std::size_t kCuts = 2, kRowsOfSum = Mmla::kRowsOfSum;
  using Sum = PairSums<int32x4_t>;
  static Sum begin(const std::byte*, std::size_t) { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  static Sum dot(Left a, const Right& b, const Sum& sum) {
    return {vmmlaq_s32(sum.low, a, b.low), vmmlaq_s32(sum.high, a, b.high)};
  }
  // Four values of each row, zeros for the others.
  static Left first_half(const std::byte* p, const std::byte* q) { return half<0>(p, q); }
  static Left second_half(const std::byte* p, const std::byte* q) { return half<1>(p, q); }
  static Sum load(const float* c, const float* d) {
    const float32x4_t first = vld1q_f32(c), second = vld1q_f32(d);
    return {vreinterpretq_s32_f32(vcombine_f32(vget_low_f32(first), vget_low_f32(second))),
            vreinterpretq_s32_f32(vcombine_f32(vget_high_f32(first), vget_high_f32(second)))};
  }
  static int32x4_t row(const Sum& sum, std::size_t i) {
    return i == 0 ? vcombine_s32(vget_low_s32(sum.low), vget_low_s32(sum.high))
                  : vcombine_s32(vget_high_s32(sum.low), vget_high_s32(sum.high));
  }

 private:
  template <int kHalf>
  static Left half(const std::byte* p, const std::byte* q) {
    const auto* first = static_cast<const std::int32_t*>(static_cast<const void*>(p));
    const auto* second = static_cast<const std::int32_t*>(static_cast<const void*>(q));
    const int32x4_t one = vld1q_lane_s32(first, vdupq_n_s32(0), kHalf);
    return vreinterpretq_s8_s32(vld1q_lane_s32(second, one, 2 + kHalf));
  }
};

template <std::size_t kRowsOfTile, std::size_t kVectorsOfTile, std::size_t kStepsOfBlock>
struct Bf16Mmla : FloatSums<Vector<NeonArch>>, Mmla {
  static constexpr std::size_t kRows = kRowsOfTile, kVectors = kVectorsOfTile;
  static constexpr std::size_t kBlock = kStepsOfBlock, kDepth = 4;
  static constexpr std::size_t kRowsOfSum = Mmla::kRowsOfSum;
  static constexpr bool kWritesFixed = false;
  using Sum = PairSums<float32x4_t>;
  static Sum begin(const std::byte*, std::size_t) { return {vdupq_n_f32(0), vdupq_n_f32(0)}; }
  static Sum dot(Left a, const Right& b, const Sum& sum) {
    const auto rows = vreinterpretq_bf16_s8(a);
    return {vbfmmlaq_f32(sum.low, rows, vreinterpretq_bf16_s8(b.low)),
            vbfmmlaq_f32(sum.high, rows, vreinterpretq_bf16_s8(b.high))};
  }
  static Sum load(const float* c, const float* d) {
    const float32x4_t first = vld1q_f32(c), second = vld1q_f32(d);
    return {vcombine_f32(vget_low_f32(first), vget_low_f32(second)),
            vcombine_f32(vget_high_f32(first), vget_high_f32(second))};
  }
  static V row(const Sum& sum, std::size_t i) {
    return V(i == 0 ? vcombine_f32(vget_low_f32(sum.low), vget_low_f32(sum.high))
                    : vcombine_f32(vget_high_f32(sum.low), vget_high_f32(sum.high)));
  }
  static void store_left(std::byte* to, V values) {
    const bfloat16x4_t rounded = vcvt_bf16_f32(values);
    __builtin_memcpy(to, &rounded, sizeof rounded);
  }
};

}  // namespace
}  // namespace splitee::kernels

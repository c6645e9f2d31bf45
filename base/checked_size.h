// A size that remembers whether it ever overflowed: every sum and product of sizes that came from
// outside is computed with it, and looked at once, at the end.
// Thread rule: plain value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"

namespace splitee {

class CheckedSize {
 public:
  // Invalid from the start where a 64-bit size does not fit this machine's size_t.
  constexpr CheckedSize(std::uint64_t value)  // NOLINT(google-explicit-constructor)
      : value_(static_cast<std::size_t>(value)), ok_(value_ == value) {}

  constexpr bool ok() const { return ok_; }

  // Precondition: ok().
  constexpr std::size_t value() const {
    SPLITEE_CHECK(ok_);
    return value_;
  }

  // True only for a valid size that is at most `limit`.
  constexpr bool at_most(std::size_t limit) const { return ok_ && value_ <= limit; }

  friend constexpr CheckedSize operator+(CheckedSize a, CheckedSize b) {
    a.ok_ = !__builtin_add_overflow(a.value_, b.value_, &a.value_) && a.ok_ && b.ok_;
    return a;
  }

  friend constexpr CheckedSize operator*(CheckedSize a, CheckedSize b) {
    a.ok_ = !__builtin_mul_overflow(a.value_, b.value_, &a.value_) && a.ok_ && b.ok_;
    return a;
  }

  // The next multiple of `alignment`, which is a power of two.
  constexpr CheckedSize round_up(std::size_t alignment) const {
    CheckedSize up = *this + (alignment - 1);
    up.value_ &= ~(alignment - 1);
    return up;
  }

 private:
  std::size_t value_;
  bool ok_;
};

}  // namespace splitee

// What the exits of a network say of an edge's samples: functions of the sample alone, so that what
// the last exit would have said is known of every sample, whoever answered it.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "policy/policy.h"

namespace splitee::simulation {

inline constexpr std::size_t kArmLayers[] = {2, 4, 6};
inline constexpr std::size_t kArms = 3;

class Stream {
 public:
  struct Shape {
    double differ = 0, differ_later = 0;  // share of early answers that differ from the last exit's
    double bad_value = 0;                 // share of readings that are no numbers
    std::size_t turn = 0;                 // sample from which on `differ_later` counts
  };
  Stream(std::uint64_t seed, const Shape& shape) : seed_(seed), shape_(shape) {}

  bool broken(std::size_t sample, std::size_t arm) const {
    return unit(sample, arm, 1) < shape_.bad_value;
  }
  std::uint32_t class_of(std::size_t sample, std::size_t arm) const {
    const std::uint32_t last = unit(sample, kArms - 1, 2) < 0.5 ? 1 : 0;
    const double differ =
        sample < shape_.turn || sample >= kElsewhere ? shape_.differ : shape_.differ_later;
    return arm < kArms - 1 && unit(sample, arm, 3) < differ ? 1 - last : last;
  }
  // Whether an answer of `arm` differs from the last exit's. One that says nothing differs from
  // none.
  bool differs(std::size_t sample, std::size_t arm) const {
    return !broken(sample, kArms - 1) && class_of(sample, arm) != class_of(sample, kArms - 1);
  }
  std::vector<float> probabilities(std::size_t sample, std::size_t arm) const {
    const double root = 3.0 - static_cast<double>(arm);
    const auto sure = static_cast<float>(0.51 + 0.49 * std::pow(unit(sample, arm, 0), root));
    const float other = broken(sample, arm) ? std::numeric_limits<float>::quiet_NaN() : 1 - sure;
    if (class_of(sample, arm) == 0) return {sure, other};
    return {other, sure};
  }
  // As a model file keeps them: of the same kind as the stream's first samples.
  std::vector<float> held_out_rows(std::size_t count) const {
    std::vector<float> rows;
    for (std::size_t row = kElsewhere; row < kElsewhere + count; ++row) {
      for (std::size_t arm = 0; arm < kArms; ++arm) {
        const float sure = policy::read_exit(probabilities(row, arm)).confidence;
        const float known = std::isnan(sure) ? 0.5f : sure;
        rows.push_back(class_of(row, arm) != class_of(row, kArms - 1) ? -known : known);
      }
    }
    return rows;
  }

 private:
  double unit(std::size_t sample, std::size_t arm, std::size_t what) const {
    const std::uint64_t mixed = mix_seed(mix_seed(seed_ + sample) + arm * 4 + what);
    return static_cast<double>(mixed >> 11) * 0x1p-53;
  }

  static constexpr std::size_t kElsewhere = std::size_t{1} << 40;  // samples held out

  std::uint64_t seed_;
  Shape shape_;
};

// A sample's exits, as EpisodeRunner asks for them.
class StreamExits {
 public:
  StreamExits(const Stream& stream, std::size_t sample) : stream_(stream), sample_(sample) {}
  policy::ExitReading evaluate(std::size_t arm) {
    probabilities_ = stream_.probabilities(sample_, arm);
    return policy::read_exit(probabilities_);
  }

 private:
  const Stream& stream_;
  std::size_t sample_;
  std::vector<float> probabilities_;
};

}  // namespace splitee::simulation

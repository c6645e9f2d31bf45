#include "policy/learners/fixed_arm.h"

#include "policy/learners/policy_base.h"

namespace splitee::policy {
namespace {

std::size_t draw_arm(const PolicyOptions& options, Rng& rng) {
  return rng.below(static_cast<std::uint32_t>(options.arms()));
}

class OneArm final : public PolicyBase {
 public:
  OneArm(std::string_view name, const PolicyOptions& options, std::size_t arm)
      : PolicyBase(name, options), arm_(arm) {}

 private:
  Plan choose(LinkState) override { return {.arm = arm_}; }
  void archive(StateArchive& archive) override { archive.index(arm_, options_.arms()); }

  std::size_t arm_;
};

class RandomArms final : public PolicyBase {
 public:
  explicit RandomArms(const PolicyOptions& options)
      : PolicyBase("random", options), rng_(options.seed) {}

 private:
  Plan choose(LinkState) override { return {.arm = draw_arm(options_, rng_)}; }
  void archive(StateArchive& archive) override { archive.rng(rng_); }

  Rng rng_;
};

class OffloadAtOnce final : public PolicyBase {
 public:
  explicit OffloadAtOnce(const PolicyOptions& options) : PolicyBase("offload", options) {}

 private:
  Plan choose(LinkState link) override {
    return {.arm = link == LinkState::kNone ? options_.last_arm() : kOffloadAtOnce};
  }
};

}  // namespace

std::unique_ptr<Policy> make_final(const PolicyOptions& options) {
  return std::make_unique<OneArm>("final", options, options.last_arm());
}

std::unique_ptr<Policy> make_fixed(const PolicyOptions& options) {
  return std::make_unique<OneArm>("fixed", options, options.fixed_arm);
}

std::unique_ptr<Policy> make_random_arm(const PolicyOptions& options) {
  Rng rng(options.seed);
  return std::make_unique<OneArm>("random-arm", options, draw_arm(options, rng));
}

std::unique_ptr<Policy> make_random(const PolicyOptions& options) {
  return std::make_unique<RandomArms>(options);
}

std::unique_ptr<Policy> make_offload(const PolicyOptions& options) {
  return std::make_unique<OffloadAtOnce>(options);
}

}  // namespace splitee::policy

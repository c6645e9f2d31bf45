#include "policy/learners/cascade.h"

#include <cmath>

#include "policy/learners/policy_base.h"

namespace splitee::policy {
namespace {

double entropy_term(double p) {
  return p > 0.0 ? -p * std::log(p) : 0.0;
}

class Cascade : public PolicyBase {
 protected:
  using PolicyBase::PolicyBase;
  virtual bool passes(std::size_t arm, const ExitReading& reading) = 0;
  Plan choose(LinkState) override {
    return {.arm = options_.last_arm(), .every_exit = true, .may_end_early = true};
  }

 private:
  Action decide(const Plan& plan, std::size_t arm, const ExitReading& reading) final {
    const bool sure = passes(arm, reading) && !std::isnan(reading.confidence);
    if (sure || arm == options_.last_arm()) return Action::kExit;
    return plan.first == kAsPlanned ? Action(Action::kContinue) : Action::run_on_to(arm + 1);
  }
};

class Threshold final : public Cascade {
 public:
  explicit Threshold(const PolicyOptions& options) : Cascade("threshold", options) {}

 private:
  Plan choose(LinkState link) override {
    const std::size_t first = options_.first_exit - 1;
    if (first == 0) return Cascade::choose(link);
    return {.arm = options_.last_arm(), .may_end_early = true, .first = first};
  }
  bool passes(std::size_t, const ExitReading& reading) override {
    return is_sure(reading.confidence);
  }
};

class Entropy final : public Cascade {
 public:
  explicit Entropy(const PolicyOptions& options) : Cascade("entropy", options) {}

 private:
  bool passes(std::size_t, const ExitReading& reading) override {
    const double entropy =
        reading.probabilities.empty()
            ? normalised_entropy(static_cast<double>(reading.confidence), reading.classes)
            : normalised_entropy(reading.probabilities);
    if (options_.entropy_threshold) return entropy < *options_.entropy_threshold;
    // Inclusive like `confidence >= alpha`, and from the same float.
    const auto alpha = static_cast<double>(static_cast<float>(options_.alpha));
    return entropy <= normalised_entropy(alpha, reading.classes);
  }
};

class Patience final : public Cascade {
 public:
  explicit Patience(const PolicyOptions& options) : Cascade("patience", options) {}

 private:
  bool passes(std::size_t arm, const ExitReading& reading) override {
    const bool same = arm > 0 && reading.prediction == previous_;
    in_a_row_ = same ? in_a_row_ + 1 : 0;
    previous_ = reading.prediction;
    return in_a_row_ >= options_.patience;
  }

  std::size_t previous_ = 0;
  std::size_t in_a_row_ = 0;  // of the sample being walked; the first exit resets it
};

}  // namespace

double normalised_entropy(std::span<const float> probabilities) {
  if (probabilities.size() < 2) return 0.0;
  double sum = 0.0;
  for (const float p : probabilities) sum += entropy_term(static_cast<double>(p));
  return sum / std::log(static_cast<double>(probabilities.size()));
}

double normalised_entropy(double confidence, std::size_t classes) {
  if (classes < 2) return 0.0;
  const auto others = static_cast<double>(classes - 1);
  const double rest = (1.0 - confidence) / others;
  return (entropy_term(confidence) + others * entropy_term(rest)) /
         std::log(static_cast<double>(classes));
}

std::unique_ptr<Policy> make_threshold(const PolicyOptions& options) {
  return std::make_unique<Threshold>(options);
}

std::unique_ptr<Policy> make_entropy(const PolicyOptions& options) {
  return std::make_unique<Entropy>(options);
}

std::unique_ptr<Policy> make_patience(const PolicyOptions& options) {
  return std::make_unique<Patience>(options);
}

}  // namespace splitee::policy

// Policies that learn nothing, from learners/cascade.h and learners/fixed_arm.h.
#include "base/rng.h"
#include "tests/policy/reference.h"

namespace splitee::policy::reference {
namespace {

// One split for all samples, or one drawn for each.
class OneSplit final : public Reference {
 public:
  OneSplit(std::string_view name, const PolicyOptions& options)
      : Reference(options), rng_(options.seed), each_(name == "random") {
    arm_ = name == "final" ? last() : name == "fixed" ? options.fixed_arm : drawn();
  }
  std::string wrong_plan(const Plan& plan, LinkState) override {
    if (each_ && !first_) arm_ = drawn();
    first_ = false;
    return plan.arm == arm_ && !plan.every_exit ? "" : "another split";
  }

 private:
  std::size_t drawn() { return rng_.below(static_cast<std::uint32_t>(arms())); }

  Rng rng_;
  bool each_, first_ = true;
  std::size_t arm_;
};

class AtOnce final : public Reference {
 public:
  using Reference::Reference;
  std::string wrong_plan(const Plan& plan, LinkState link) override {
    const std::size_t arm = link == LinkState::kNone ? last() : kOffloadAtOnce;
    return plan.arm == arm ? "" : "another split";
  }
};

double entropy(const std::vector<double>& p) {
  double sum = 0;
  for (const double value : p) sum -= value > 0 ? value * std::log(value) : 0.0;
  return p.size() < 2 ? 0.0 : sum / std::log(static_cast<double>(p.size()));
}

std::vector<double> spread(double confidence, std::size_t classes) {
  std::vector<double> p(classes, (1.0 - confidence) / static_cast<double>(classes - 1));
  if (classes > 0) p[0] = confidence;
  return p;
}

// Every exit in turn, until one passes.
class EachExit final : public Reference {
 public:
  EachExit(std::string_view name, const PolicyOptions& options) : Reference(options), name_(name) {}

  std::string wrong_plan(const Plan& plan, LinkState) override {
    said_.clear();
    const bool later = name_ == "threshold" && options_.first_exit > 1;
    const bool first = later ? plan.first == options_.first_exit - 1 : plan.first == kAsPlanned;
    if (plan.arm != last() || !plan.may_end_early || plan.every_exit == later || !first) {
      return "not each exit in turn";
    }
    return "";
  }
  unsigned allowed(const Plan&, std::size_t arm, const ExitReading& reading) override {
    said_.push_back(reading.prediction);
    if (arm == last()) return kMayExit;
    if (std::isnan(reading.confidence)) return kMayContinue;
    if (name_ == "threshold") return sure(reading.confidence) ? kMayExit : kMayContinue;
    return name_ == "entropy" ? by_entropy(reading) : by_patience();
  }

 private:
  unsigned by_entropy(const ExitReading& reading) const {
    std::vector<double> p(reading.probabilities.begin(), reading.probabilities.end());
    if (p.empty()) p = spread(static_cast<double>(reading.confidence), reading.classes);
    const auto alpha = static_cast<double>(static_cast<float>(options_.alpha));
    const double limit =
        options_.entropy_threshold.value_or(entropy(spread(alpha, reading.classes)));
    const double above = entropy(p) - limit;
    if (std::abs(above) < 1e-12) return kMayExit | kMayContinue;
    return above < 0 ? kMayExit : kMayContinue;
  }
  // The last `patience` exits said what the one before them did.
  unsigned by_patience() const {
    if (said_.size() <= options_.patience) return kMayContinue;
    for (std::size_t back = 1; back <= options_.patience; ++back) {
      if (said_[said_.size() - 1 - back] != said_.back()) return kMayContinue;
    }
    return kMayExit;
  }

  std::string name_;
  std::vector<std::size_t> said_;  // of the sample at hand
};

}  // namespace

std::unique_ptr<Reference> make_rule(std::string_view name, const PolicyOptions& options) {
  if (name == "offload") return std::make_unique<AtOnce>(options);
  if (name == "final" || name == "fixed" || name == "random" || name == "random-arm") {
    return std::make_unique<OneSplit>(name, options);
  }
  if (name == "threshold" || name == "entropy" || name == "patience") {
    return std::make_unique<EachExit>(name, options);
  }
  return nullptr;
}

}  // namespace splitee::policy::reference

#include "policy/learners/disagreement_bound.h"

#include <algorithm>
#include <cmath>

namespace splitee::policy {
namespace {

constexpr double kLargestBet = 0.9;  // of the audit's probability
constexpr double kFirstBet = 0.45;   // each next one is half as large
constexpr double kGivenUp = -1e60;   // below any wealth, within what a state may hold
constexpr int kBisections = 60;

}  // namespace

double DisagreementBound::bet(std::size_t i) {
  return std::ldexp(kFirstBet, -static_cast<int>(i));
}

void DisagreementBound::add(double probability, bool audited, bool differs) {
  ++answers_;
  audited_ += audited ? 1 : 0;
  const bool wrong = audited && differs;
  differing_ += wrong ? 1 : 0;
  for (std::size_t i = 0; i < kBets; ++i) {
    if (bet(i) > kLargestBet * probability) {
      log_wealth_[i] = kGivenUp;
    } else if (wrong && log_wealth_[i] > kGivenUp) {
      log_wealth_[i] += std::log1p(-bet(i) / probability);
    }
  }
}

double DisagreementBound::upper(double level) const {
  // What is known for certain.
  auto low = static_cast<double>(differing_);
  auto high = static_cast<double>(answers_ - audited_ + differing_);
  const double limit = -std::log1p(-level) + std::log(static_cast<double>(kBets));
  // The mixture's logarithm grows with the number of answers that differed.
  const auto allowed = [&](double count) {
    double largest = kGivenUp, sum = 0.0;
    for (std::size_t i = 0; i < kBets; ++i) {
      if (log_wealth_[i] > kGivenUp) largest = std::max(largest, log_wealth_[i] + bet(i) * count);
    }
    if (largest == kGivenUp) return true;
    for (std::size_t i = 0; i < kBets; ++i) {
      if (log_wealth_[i] > kGivenUp) sum += std::exp(log_wealth_[i] + bet(i) * count - largest);
    }
    return largest + std::log(sum) < limit;
  };
  if (allowed(high)) return high;
  for (int step = 0; step < kBisections; ++step) {
    const double middle = 0.5 * (low + high);
    (allowed(middle) ? low : high) = middle;
  }
  return high;
}

void DisagreementBound::archive(StateArchive& archive) {
  for (double& wealth : log_wealth_) {
    archive.number(wealth);
    if (archive.reading() && wealth > 0.0) archive.refuse();
  }
  archive.word(answers_);
  archive.word(audited_);
  archive.word(differing_);
  if (archive.reading() && (audited_ > answers_ || differing_ > audited_)) archive.refuse();
}

}  // namespace splitee::policy

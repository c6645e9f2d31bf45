#include "policy/measure/calibration.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace splitee::policy {
namespace {

constexpr double kQuantile95 = 1.645;  // of the normal distribution, one-sided

// Slope and curvature of the mean negative log-likelihood in 1 / T.
struct Slopes {
  double first = 0, second = 0;
};

Slopes slopes_at(double inverse, std::span<const float> log_probability, std::size_t classes,
                 std::span<const std::uint32_t> truth) {
  Slopes slopes;
  for (std::size_t row = 0; row < truth.size(); ++row) {
    const std::span<const float> x = log_probability.subspan(row * classes, classes);
    const auto highest = static_cast<double>(*std::ranges::max_element(x));
    double weight = 0, sum = 0, squares = 0;
    for (const float value_float : x) {
      const auto value = static_cast<double>(value_float);
      const double power = std::exp(inverse * (value - highest));
      weight += power;
      sum += power * value;
      squares += power * value * value;
    }
    const double mean = sum / weight;
    slopes.first += mean - static_cast<double>(x[truth[row]]);
    slopes.second += squares / weight - mean * mean;
  }
  return slopes;
}

// How one exit's answers compare with the last exit's, as the threshold comes down.
class Pairs {
 public:
  Pairs(std::span<const Prediction> early, std::span<const Prediction> last)
      : samples_(early.size()) {
    for (std::size_t i = 0; i < samples_; ++i) {
      pairs_.push_back({early[i].confidence, early[i].correct, last[i].correct});
    }
    std::ranges::sort(pairs_, std::greater<>(), &Pair::confidence);
  }
  // Precondition: not above the alpha of the call before.
  Loss lower_to(float alpha) {
    for (; next_ < samples_ && pairs_[next_].confidence >= alpha; ++next_) {
      harm_ += !pairs_[next_].correct && pairs_[next_].last_correct ? 1 : 0;
      help_ += pairs_[next_].correct && !pairs_[next_].last_correct ? 1 : 0;
    }
    return paired_loss(harm_, help_, samples_);
  }
  double share() const { return static_cast<double>(next_) / static_cast<double>(samples_); }

 private:
  struct Pair {
    float confidence;
    bool correct, last_correct;
  };
  std::vector<Pair> pairs_;
  std::size_t samples_, next_ = 0, harm_ = 0, help_ = 0;
};

// Answers from the first exit that is sure.
Loss cascade_loss(std::span<const std::vector<Prediction>> answers, float alpha) {
  const std::vector<Prediction>& last = answers.back();
  std::size_t harm = 0, help = 0;
  for (std::size_t sample = 0; sample < last.size(); ++sample) {
    const auto sure = std::ranges::find_if(answers, [&](const std::vector<Prediction>& exit) {
      return exit[sample].confidence >= alpha;
    });
    const bool correct = (sure == answers.end() ? last : *sure)[sample].correct;
    harm += !correct && last[sample].correct ? 1 : 0;
    help += correct && !last[sample].correct ? 1 : 0;
  }
  return paired_loss(harm, help, last.size());
}

// From the highest alpha of the grid down; `step(alpha, choice)` fills in the choice and says
// whether alpha will do.
template <class Step>
AlphaChoice walk_down(Step step) {
  const auto steps = static_cast<int>(std::lround((kHighestAlpha - kLowestAlpha) / kAlphaStep));
  AlphaChoice best;
  for (int i = steps; i >= 0; --i) {
    AlphaChoice choice;
    choice.alpha = kLowestAlpha + kAlphaStep * i;
    if (!step(static_cast<float>(choice.alpha), choice)) break;
    best = choice;
  }
  return best;
}

}  // namespace

double fit_temperature(std::span<const float> log_probability, std::size_t classes,
                       std::span<const std::uint32_t> truth) {
  constexpr int kMostSteps = 100;
  constexpr double kClose = 1e-9;
  // Newton's method on the slope, which only grows; halving where a step would leave the bracket.
  double low = 1.0 / kHighestTemperature, high = 1.0 / kLowestTemperature, inverse = 1.0;
  for (int step = 0; step < kMostSteps && high - low > kClose; ++step) {
    const Slopes slopes = slopes_at(inverse, log_probability, classes, truth);
    (slopes.first > 0.0 ? high : low) = inverse;
    const double newton = inverse - slopes.first / slopes.second;
    const double next = newton > low && newton < high ? newton : (low + high) / 2.0;
    if (std::abs(next - inverse) < kClose) break;
    inverse = next;
  }
  return std::clamp(1.0 / inverse, kLowestTemperature, kHighestTemperature);
}

Prediction prediction_at(std::span<const float> log_probability, double temperature,
                         std::uint32_t truth) {
  const auto highest = std::ranges::max_element(log_probability);
  double weight = 0;
  for (const float value : log_probability) {
    weight += std::exp(static_cast<double>(value - *highest) / temperature);
  }
  return {static_cast<float>(1.0 / weight),
          static_cast<std::uint32_t>(highest - log_probability.begin()) == truth};
}

double calibration_error(std::span<const Prediction> answers) {
  double gap[kCalibrationBins] = {};  // sum of (correct - confidence)
  for (const Prediction& answer : answers) {
    const auto confidence = static_cast<double>(answer.confidence);
    const auto bin = static_cast<std::size_t>(confidence * kCalibrationBins);
    gap[std::min(bin, kCalibrationBins - 1)] += (answer.correct ? 1.0 : 0.0) - confidence;
  }
  double sum = 0;
  for (const double value : gap) sum += std::abs(value);
  return sum / static_cast<double>(answers.size());
}

Loss paired_loss(std::size_t harm, std::size_t help, std::size_t samples) {
  const auto n = static_cast<double>(samples);
  const double mean = (static_cast<double>(harm) - static_cast<double>(help)) / n;
  const double spread = std::sqrt(static_cast<double>(harm + help + 1)) / n;
  return {mean, mean + kQuantile95 * spread};
}

std::vector<AlphaChoice> choose_alpha_per_exit(std::span<const std::vector<Prediction>> answers,
                                               double max_loss) {
  std::vector<AlphaChoice> choices;
  for (const std::vector<Prediction>& exit : answers.first(answers.size() - 1)) {
    Pairs pairs(exit, answers.back());
    choices.push_back(walk_down([&](float alpha, AlphaChoice& choice) {
      choice.loss = pairs.lower_to(alpha);
      choice.exit_share = pairs.share();
      return choice.loss.bound <= max_loss;
    }));
  }
  choices.push_back({.alpha = kLowestAlpha, .loss = {}, .exit_share = 1.0});
  return choices;
}

AlphaChoice choose_alpha(std::span<const std::vector<Prediction>> answers, double max_loss) {
  std::vector<Pairs> splits;
  for (const std::vector<Prediction>& exit : answers.first(answers.size() - 1)) {
    splits.emplace_back(exit, answers.back());
  }
  return walk_down([&](float alpha, AlphaChoice& choice) {
    choice.loss = cascade_loss(answers, alpha);
    for (Pairs& split : splits) {
      const Loss loss = split.lower_to(alpha);
      if (loss.bound > choice.loss.bound) choice.loss = loss;
    }
    return choice.loss.bound <= max_loss;
  });
}

}  // namespace splitee::policy

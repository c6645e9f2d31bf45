#include "policy/measure/calibration.h"

#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

// Samples of a network whose logits are `scale` times too large: their labels are drawn from
// softmax(logits / scale).
struct Planted {
  std::vector<float> log_probability;
  std::vector<std::uint32_t> truth;
};

Planted overconfident(double scale, std::size_t classes, std::size_t samples) {
  Rng rng(kTestSeed);
  Planted planted;
  for (std::size_t i = 0; i < samples; ++i) {
    std::vector<double> logit(classes);
    double sum = 0, true_sum = 0;
    for (double& value : logit) {
      value = 1.5 * normal_quantile(rng.uniform() + 0x1p-60);
      sum += std::exp(scale * value);
      true_sum += std::exp(value);
    }
    double draw = rng.uniform() * true_sum;
    std::uint32_t label = 0;
    while (label + 1 < classes && (draw -= std::exp(logit[label])) > 0) ++label;
    planted.truth.push_back(label);
    for (const double value : logit) {
      planted.log_probability.push_back(static_cast<float>(scale * value - std::log(sum)));
    }
  }
  return planted;
}

double loss_at(const Planted& planted, std::size_t classes, double temperature) {
  double loss = 0;
  for (std::size_t i = 0; i < planted.truth.size(); ++i) {
    double sum = 0;
    for (std::size_t k = 0; k < classes; ++k) {
      sum += std::exp(static_cast<double>(planted.log_probability[i * classes + k]) / temperature);
    }
    const float x = planted.log_probability[i * classes + planted.truth[i]];
    loss -= static_cast<double>(x) / temperature - std::log(sum);
  }
  return loss / static_cast<double>(planted.truth.size());
}

std::vector<Prediction> answers_of(const Planted& planted, std::size_t classes,
                                   double temperature) {
  std::vector<Prediction> answers;
  for (std::size_t i = 0; i < planted.truth.size(); ++i) {
    const auto row = std::span(planted.log_probability).subspan(i * classes, classes);
    answers.push_back(prediction_at(row, temperature, planted.truth[i]));
  }
  return answers;
}

TEST_CASE("the temperature that was planted is found, and calibrates") {
  for (const std::size_t classes : {2u, 3u, 10u}) {
    for (const double scale : {0.5, 1.0, 3.0}) {
      CAPTURE(classes);
      CAPTURE(scale);
      const Planted planted = overconfident(scale, classes, 20'000);
      const double t = fit_temperature(planted.log_probability, classes, planted.truth);
      CHECK(t == doctest::Approx(scale).epsilon(0.05));
      for (const double other : {0.99, 1.01}) {
        CHECK(loss_at(planted, classes, t) <= loss_at(planted, classes, other * t));
      }
      const double before = calibration_error(answers_of(planted, classes, 1.0));
      const double after = calibration_error(answers_of(planted, classes, t));
      CHECK(after < 0.015);
      if (scale != 1.0) CHECK(before > 0.05);
    }
  }
}

TEST_CASE("a temperature stays within bounds whatever the labels") {
  const std::vector<float> sure = {-0.1f, -2.35f, -2.35f, -0.1f};
  CHECK(fit_temperature(sure, 2, std::vector<std::uint32_t>{0, 1}) ==
        doctest::Approx(kLowestTemperature));
  CHECK(fit_temperature(sure, 2, std::vector<std::uint32_t>{1, 0}) ==
        doctest::Approx(kHighestTemperature));
  const std::vector<float> far = {0.0f, -103.0f};
  CHECK(std::isfinite(fit_temperature(far, 2, std::vector<std::uint32_t>{1})));
  const std::vector<float> even = {-0.6931472f, -0.6931472f};
  CHECK(std::isfinite(fit_temperature(even, 2, std::vector<std::uint32_t>{0})));
}

TEST_CASE("calibration error by hand") {
  // Bins of 1/15: .52 and .53 share one (0.4667 to 0.5333), 1.0 is in the last.
  const std::vector<Prediction> answers = {
      {0.52f, true}, {0.53f, false}, {0.9f, true}, {1.0f, false}};
  const double expected = (std::abs(1 - 0.52 - 0.53) + 0.1 + 1.0) / 4;
  CHECK(calibration_error(answers) == doctest::Approx(expected));
}

TEST_CASE("answers at a temperature") {
  const std::vector<float> row = {std::log(0.2f), std::log(0.6f), std::log(0.2f)};
  CHECK(prediction_at(row, 1.0, 1).confidence == doctest::Approx(0.6));
  CHECK(prediction_at(row, 1.0, 1).correct);
  CHECK(!prediction_at(row, 1.0, 0).correct);
  const double root = std::sqrt(0.6) / (std::sqrt(0.6) + 2 * std::sqrt(0.2));
  CHECK(prediction_at(row, 2.0, 1).confidence == doctest::Approx(root));
  const std::vector<float> tie = {-1.0f, -1.0f};
  CHECK(prediction_at(tie, 1.0, 0).correct);
}

// Exit 0 is wrong below `good_from`, right above; the last exit is right in 95 %.
std::vector<std::vector<Prediction>> two_exits(float good_from, std::size_t samples) {
  Rng rng(kTestSeed);
  std::vector<std::vector<Prediction>> answers(2);
  for (std::size_t i = 0; i < samples; ++i) {
    const auto confidence = static_cast<float>(0.5 + 0.5 * rng.uniform());
    const bool last = rng.uniform() < 0.95;
    answers[0].push_back({confidence, confidence >= good_from ? last : false});
    answers[1].push_back({0.95f, last});
  }
  return answers;
}

TEST_CASE("alpha is the smallest that the data vouch for") {
  // Below .80 every answer is wrong: each hundredth lower costs 2 % of samples * 95 %.
  const auto answers = two_exits(0.8f, 20'000);
  const AlphaChoice choice = choose_alpha(answers, 0.01);
  CHECK(choice.alpha == doctest::Approx(0.80));
  CHECK(choice.loss.mean == 0.0);
  CHECK(choice.loss.bound <= 0.01);
  const AlphaChoice loose = choose_alpha(answers, 0.05);
  CHECK(loose.alpha == doctest::Approx(0.78));
  CHECK(loose.loss.mean > 0.03);
  CHECK(choose_alpha(answers, 1.0).alpha == doctest::Approx(kLowestAlpha));

  const std::vector<AlphaChoice> per_exit = choose_alpha_per_exit(answers, 0.01);
  REQUIRE(per_exit.size() == 2);
  CHECK(per_exit[0].alpha == doctest::Approx(0.80));
  CHECK(per_exit[0].exit_share == doctest::Approx(0.4).epsilon(0.05));
  CHECK(per_exit[1].alpha == doctest::Approx(kLowestAlpha));
}

TEST_CASE("little evidence is not taken for certainty") {
  const auto few = two_exits(0.0f, 50);  // exit 0 is never worse, but 50 samples cannot show it
  CHECK(choose_alpha(few, 0.01).alpha == kNeverSure);
  CHECK(choose_alpha_per_exit(few, 0.01)[0].alpha == kNeverSure);
  CHECK(choose_alpha_per_exit(few, 0.01)[0].exit_share == 0.0);
  CHECK(choose_alpha(two_exits(0.0f, 500), 0.01).alpha == doctest::Approx(kLowestAlpha));
}

TEST_CASE("one alpha for all exits is that of the worst, or of the first sure exit") {
  const auto bad = two_exits(0.9f, 20'000), good = two_exits(0.6f, 20'000);
  const std::vector<std::vector<Prediction>> three = {good[0], bad[0], good[1]};
  CHECK(choose_alpha(three, 0.01).alpha == doctest::Approx(0.90));
  const std::vector<AlphaChoice> per_exit = choose_alpha_per_exit(three, 0.01);
  CHECK(per_exit[0].alpha == doctest::Approx(0.60));
  CHECK(per_exit[1].alpha == doctest::Approx(0.90));

  // Six exits, each of which spoils another 0.7 %: each alone is within a point, together they
  // are not.
  std::vector<std::vector<Prediction>> many(7);
  for (std::size_t sample = 0; sample < 20'000; ++sample) {
    for (std::size_t exit = 0; exit < 7; ++exit) {
      const bool spoiled = sample % 1000 / 7 == exit;
      many[exit].push_back({spoiled ? 0.85f : 0.55f, exit == 6});
    }
  }
  CHECK(choose_alpha_per_exit(many, 0.01)[0].alpha < 0.85);
  CHECK(choose_alpha(many, 0.01).alpha > 0.85);
}

TEST_CASE("the bound holds for the share of samples that it names") {
  // Repeated draws of 2,000 samples with a true loss of 1 %: the bound lies below it in about 5 %.
  Rng rng(kTestSeed);
  int missed = 0;
  for (int draw = 0; draw < 2000; ++draw) {
    std::size_t harm = 0, help = 0;
    for (int i = 0; i < 2000; ++i) {
      const double u = rng.uniform();
      harm += u < 0.03 ? 1 : 0;
      help += u > 0.98 ? 1 : 0;
    }
    missed += paired_loss(harm, help, 2000).bound < 0.01 ? 1 : 0;
  }
  CHECK(missed < 140);
  CHECK(missed > 60);
}

}  // namespace
}  // namespace splitee::policy

// Makes a multi-exit network's confidences mean what they say, from labelled samples.
//
// Temperature (Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
// section 4.2): confidences become softmax(x / T) with the T of least negative log-likelihood. The
// loss is convex in 1 / T. Log-probabilities serve as x as well as logits do.
//
// Expected calibration error (the same, equation 3): samples fall into bins of equal width by
// confidence; sum over bins of (share of samples) * |mean accuracy - mean confidence|.
//
// Alpha (the confidence from which an exit answers): the smallest of a grid for which, with
// confidence 95 %, answering there where sure and from the last exit elsewhere loses at most
// max_loss of the last exit's accuracy. Per threshold, n samples, of which the exit gets `harm`
// wrong that the last exit gets right, and `help` the other way round: the loss is below
//   (harm - help) / n + 1.645 sqrt(harm + help + 1) / n
// (normal bound of the mean of paired differences, one more difference added so that little
// evidence never looks like certainty). The grid is walked downwards and the walk ends at the
// first threshold that fails, so that the 95 % hold for the one chosen (fixed-sequence testing, as
// in "Learn then Test", Angelopoulos, Bates, Candes, Jordan, Lei 2021).
//
// Labels are needed here and nowhere else: a wrong alpha cannot be seen in rewards, which are made
// of confidences.
// Thread rule: pure functions. Precondition everywhere: sizes that fit one another, no empty input.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace splitee::policy {

inline constexpr double kLowestTemperature = 0.05, kHighestTemperature = 20.0;
inline constexpr double kLowestAlpha = 0.5, kHighestAlpha = 0.99, kAlphaStep = 0.01;
inline constexpr double kNeverSure = 1.0;  // alpha where no threshold of the grid will do
inline constexpr std::size_t kCalibrationBins = 15;

// log_probability (rows, classes), finite; `truth` holds a class below `classes` per row. Within
// kLowestTemperature and kHighestTemperature.
double fit_temperature(std::span<const float> log_probability, std::size_t classes,
                       std::span<const std::uint32_t> truth);

// What one exit says about one sample.
struct Prediction {
  float confidence = 0;
  bool correct = false;
};

// The answer at a temperature, from one row of log-probabilities; the lowest of equal classes.
Prediction prediction_at(std::span<const float> log_probability, double temperature,
                         std::uint32_t truth);

double calibration_error(std::span<const Prediction> answers);

// What a threshold costs in accuracy, in shares of all samples.
struct Loss {
  double mean = 0;
  double bound = 0;  // 95 %, one-sided
};
Loss paired_loss(std::size_t harm, std::size_t help, std::size_t samples);

struct AlphaChoice {
  double alpha = kNeverSure;
  Loss loss;              // of the split that loses most under it
  double exit_share = 0;  // of samples that the exit answers; 0 for a choice over several exits
};

// answers: per exit one row of samples, the last exit last. One choice per exit, for splits there;
// the last exit's is kLowestAlpha, since it answers in any case.
std::vector<AlphaChoice> choose_alpha_per_exit(std::span<const std::vector<Prediction>> answers,
                                               double max_loss);

// One threshold for all exits: good for a split at every one of them, and for answering at the
// first exit that is sure.
AlphaChoice choose_alpha(std::span<const std::vector<Prediction>> answers, double max_loss);

}  // namespace splitee::policy

#include "tools/splitee/prior.h"

#include <algorithm>

#include "policy/measure/calibration.h"
#include "runtime/file/model_keys.h"

namespace splitee::tools {

void add_exit(PriorRows& rows, std::span<const float> log_probability, double temperature,
              std::span<const std::uint32_t> truth) {
  const std::size_t classes = log_probability.size() / truth.size();
  const std::size_t count = std::min(truth.size(), kMaxPriorRows);
  rows.labels.assign(truth.begin(), truth.begin() + static_cast<std::ptrdiff_t>(count));
  std::vector<std::uint16_t>& predictions = rows.predictions.emplace_back();
  std::vector<float>& confidences = rows.confidences.emplace_back();
  for (std::size_t i = 0; i < count; ++i) {
    const std::span<const float> row = log_probability.subspan(i * classes, classes);
    predictions.push_back(static_cast<std::uint16_t>(std::ranges::max_element(row) - row.begin()));
    confidences.push_back(policy::prediction_at(row, temperature, truth[i]).confidence);
  }
}

std::vector<NewKey> prior_keys(const PriorRows& rows) {
  std::vector<std::uint16_t> predictions;
  std::vector<float> confidences;
  for (std::size_t row = 0; row < rows.labels.size(); ++row) {
    for (std::size_t exit = 0; exit < rows.predictions.size(); ++exit) {
      predictions.push_back(rows.predictions[exit][row]);
      confidences.push_back(rows.confidences[exit][row]);
    }
  }
  return {array_key(runtime::kKeyPriorPredictions, predictions),
          array_key(runtime::kKeyPriorConfidences, confidences),
          array_key(runtime::kKeyPriorLabels, rows.labels),
          u32_key(runtime::kKeyPriorKinds, static_cast<std::uint32_t>(rows.kinds))};
}

}  // namespace splitee::tools

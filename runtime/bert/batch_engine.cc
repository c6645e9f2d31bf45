#include "runtime/bert/batch_engine.h"

#include <algorithm>

#include "runtime/bert/encoder.h"
#include "runtime/bert/sample_check.h"
#include "runtime/bert/text_input.h"

namespace splitee::runtime {
namespace {

// Samples of so many rows go through all layers before the next ones: what a layer makes of them
// stays in the caches, and there are enough of them to be worth reading its weights.
constexpr std::size_t kGroupRows = 256;

std::size_t rows_of(const BatchSample& sample) {
  return sample.layer == 0 ? sample.input.length : sample.rows;
}

}  // namespace

BertBatchEngine::BertBatchEngine(std::shared_ptr<const BertNetwork> model, std::size_t max_samples,
                                 std::size_t threads)
    : model_(std::move(model)),
      max_samples_(max_samples),
      encoder_(
          std::make_unique<Encoder>(*model_,
                                    std::min(max_samples * model_->config().max_tokens,
                                             std::max(kGroupRows, model_->config().max_tokens)),
                                    max_samples, threads)) {}

BertBatchEngine::~BertBatchEngine() = default;

Status BertBatchEngine::check(const BatchSample& sample) const {
  const ModelConfig& config = model_->config();
  if (sample.layer > 0) {
    return check_activation(config, sample.layer, sample.rows, sample.activation);
  }
  if (Status s = unpack(sample.input, unpacked_); !s.ok()) return s;
  return check_input(config, unpacked_.ids, unpacked_.types);
}

Status BertBatchEngine::run(std::span<const BatchSample> samples) {
  SPLITEE_CHECK(samples.size() <= max_samples_);
  if (samples.empty()) return {};
  // Those that go through a layer are the first ones in the order of their layers.
  order_by_layer(samples, order_);
  const ModelConfig& config = model_->config();
  if (Status s = model_->load(samples[order_.front()].layer, config.layers); !s.ok()) return s;
  probabilities_.resize(samples.size() * config.classes);
  for (std::span<const std::size_t> left = order_; !left.empty();) {
    const auto group = left.first(group_size(samples, left));
    if (Status s = run_group(samples, group); !s.ok()) return s;
    left = left.subspan(group.size());
  }
  return {};
}

// Of the next group; all that are left come in groups of nearly the same number of rows.
std::size_t BertBatchEngine::group_size(std::span<const BatchSample> samples,
                                        std::span<const std::size_t> left) {
  std::size_t all = 0;
  for (const std::size_t index : left) all += rows_of(samples[index]);
  const std::size_t groups = (all + kGroupRows - 1) / kGroupRows;
  const std::size_t aim = (all + groups - 1) / groups;
  std::size_t count = 1, rows = rows_of(samples[left.front()]);
  while (count < left.size() && rows < aim) {
    rows += rows_of(samples[left[count]]);
    if (rows > kGroupRows) break;
    ++count;
  }
  return count;
}

Status BertBatchEngine::run_group(std::span<const BatchSample> samples,
                                  std::span<const std::size_t> group) {
  if (Status s = place(samples, group); !s.ok()) return s;
  const ModelConfig& config = model_->config();
  std::size_t joined = 0;
  const auto join = [&](std::size_t layer) {
    while (joined < group.size() && samples[group[joined]].layer < layer) ++joined;
    return std::span(rows_).first(joined);
  };
  const bool first_only = config.pooling == Pooling::kFirstToken;
  for (std::size_t layer = 1; layer < config.layers + (first_only ? 0 : 1); ++layer) {
    const auto rows = join(layer);
    if (!rows.empty()) encoder_->run_layer(model_->layer(layer), rows);
  }
  if (first_only) {
    const auto rows = join(config.layers);
    if (!rows.empty()) encoder_->run_first(model_->layer(config.layers), rows);
    encoder_->take_first(std::span(rows_).subspan(joined), joined);
  } else {
    encoder_->take_means(rows_);
  }
  const auto found = encoder_->evaluate_exit(model_->exit(config.exit_layers.size() - 1),
                                             encoder_->first_rows(), group.size());
  for (std::size_t i = 0; i < group.size(); ++i) {
    std::copy_n(found.begin() + static_cast<std::ptrdiff_t>(i * config.classes), config.classes,
                probabilities_.begin() + static_cast<std::ptrdiff_t>(group[i] * config.classes));
  }
  return {};
}

std::span<const float> BertBatchEngine::probabilities(std::size_t index) const {
  const std::size_t classes = model_->config().classes;
  SPLITEE_CHECK((index + 1) * classes <= probabilities_.size());
  return std::span(probabilities_).subspan(index * classes, classes);
}

// Rows of the samples, and their inputs in place.
Status BertBatchEngine::place(std::span<const BatchSample> samples,
                              std::span<const std::size_t> group) {
  rows_.clear();
  const std::size_t hidden = model_->config().hidden;
  std::size_t begin = 0;
  for (const std::size_t index : group) {
    const BatchSample& sample = samples[index];
    const std::size_t count = rows_of(sample);
    SPLITEE_CHECK(count > 0 && count <= model_->config().max_tokens);
    if (sample.layer == 0) {
      if (Status s = unpack(sample.input, unpacked_); !s.ok()) return s;
      if (Status s = encoder_->embed(unpacked_.ids, unpacked_.types, begin); !s.ok()) return s;
    } else {
      std::copy(sample.activation.begin(), sample.activation.end(),
                encoder_->rows() + begin * hidden);
    }
    rows_.push_back({begin, count});
    begin += count;
  }
  return {};
}

}  // namespace splitee::runtime

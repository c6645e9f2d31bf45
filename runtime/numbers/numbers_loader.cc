// A NumbersNetwork from its file, and what it is as a Network.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string_view>

#include "runtime/file/model_keys.h"
#include "runtime/numbers/numbers_engine.h"
#include "runtime/numbers/numbers_format.h"
#include "runtime/numbers/numbers_network.h"
#include "runtime/weights/file_check.h"
#include "runtime/weights/part_planner.h"

namespace splitee::runtime {
namespace {

Status invalid(const std::string& message) {
  return {Code::kInvalidArgument, message};
}

Result<std::vector<std::uint32_t>> read_sizes(const Gguf& file, std::string_view key,
                                              std::size_t count, std::size_t least,
                                              std::size_t most) {
  Result<std::vector<std::uint32_t>> sizes = file.get_u32_array(key);
  if (!sizes.ok()) return sizes;
  if (sizes->size() != count) {
    return bad_key(file, key,
                   " has " + std::to_string(sizes->size()) + " entries for " +
                       std::to_string(count) + " blocks");
  }
  for (const std::uint32_t size : *sizes) {
    if (size >= least && size <= most) continue;
    return bad_key(file, key,
                   " has " + std::to_string(size) + "; entries must be from " +
                       std::to_string(least) + " to " + std::to_string(most));
  }
  return sizes;
}

Status read_columns(const Gguf& file, std::size_t features, std::vector<std::string>& columns) {
  if (file.find(kKeyNumbersColumns) == nullptr) return {};
  const Result<std::vector<std::string_view>> names = file.get_string_array(kKeyNumbersColumns);
  if (!names.ok()) return names.status();
  if (names->size() != features) {
    return bad_key(file, kKeyNumbersColumns,
                   " has " + std::to_string(names->size()) + " entries for " +
                       std::to_string(features) + " numbers");
  }
  std::vector<std::string_view> sorted = *names;
  std::sort(sorted.begin(), sorted.end());
  if (sorted.front().empty() || std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    return bad_key(file, kKeyNumbersColumns, " has an empty entry, or two equal ones");
  }
  columns.assign(names->begin(), names->end());
  return {};
}

}  // namespace

std::size_t NumbersConfig::widest() const {
  return std::max(features, *std::max_element(widths.begin(), widths.end()));
}

Status NumbersNetwork::read_keys(const Gguf& file) {
  std::size_t blocks = 0;
  if (Status s = read_size(file, kKeyNumbersBlocks, 1, kMaxLayers, blocks); !s.ok()) return s;
  if (Status s = read_size(file, kKeyNumbersFeatures, 1, kMaxFeatures, config_.features); !s.ok()) {
    return s;
  }
  const auto widths = read_sizes(file, kKeyNumbersWidths, blocks, 1, kMaxWidth);
  if (!widths.ok()) return widths.status();
  config_.widths.assign(widths->begin(), widths->end());
  const auto residual = read_sizes(file, kKeyNumbersResidual, blocks, 0, 1);
  if (!residual.ok()) return residual.status();
  for (std::size_t i = 0; i < blocks; ++i) {
    config_.residual.push_back((*residual)[i] == 1);
    if (config_.residual[i] && config_.width(i) != config_.width(i + 1)) {
      return bad_key(file, kKeyNumbersResidual,
                     ": block " + std::to_string(i + 1) + " has another size than its input");
    }
  }
  const Result<std::string_view> activation = file.get_string(kKeyNumbersActivation);
  if (!activation.ok()) return activation.status();
  config_.gelu = *activation == "gelu";
  if (!config_.gelu && *activation != "relu") {
    return file.error(Code::kUnsupported, "key " + std::string(kKeyNumbersActivation) +
                                              " is neither \"relu\" nor \"gelu\"");
  }
  if (Status s = read_columns(file, config_.features, info_.columns); !s.ok()) return s;
  return read_exits(file, blocks, info_);
}

Status NumbersNetwork::plan(const Gguf& file, const std::shared_ptr<ModelBytes>& bytes,
                            const ModelOptions& options) {
  if (Status s = read_keys(file); !s.ok()) return s;
  PartPlanner planner(file, *bytes);
  if (Status s = planner.read_vector("input.mean", config_.features, mean_); !s.ok()) return s;
  if (Status s = planner.read_vector("input.std", config_.features, std_); !s.ok()) return s;
  if (!std::all_of(std_.begin(), std_.end(), [](float value) { return value > 0; })) {
    return file.error(Code::kCorrupt, "tensor input.std holds a value that is not above 0");
  }
  const std::size_t layers = config_.layers(), exits = info_.exits();
  blocks_.resize(layers);
  classifiers_.resize(exits);
  std::vector<PartPlan> plans(layers + exits);
  for (std::size_t i = 0; i < layers; ++i) {
    const std::string name = "blk." + std::to_string(i) + ".dense";
    Status s = planner.plan_linear({name}, name, config_.width(i + 1), config_.width(i), blocks_[i],
                                   plans[i]);
    if (!s.ok()) return s;
  }
  std::string dtype(tensor_type_name(plans.front().linears.front().matrices.front().type));
  for (std::size_t i = 0; i < exits; ++i) {
    const std::size_t layer = info_.exit_layers[i];
    const std::string name = "splitee.exit." + std::to_string(layer) + ".classifier";
    Status s = planner.plan_linear({name}, name, info_.classes(), config_.width(layer),
                                   classifiers_[i], plans[layers + i]);
    if (!s.ok()) return s;
  }
  if (Status s = planner.check_all_used(); !s.ok()) return s;
  auto parts = WeightParts::create(bytes, file, *kernels_, std::move(plans), info_.exit_layers,
                                   options.exact);
  if (!parts.ok()) return parts.status();
  parts_ = std::move(*parts);
  describe(std::move(dtype));
  return load_layers(0, std::min(options.preload, layers));
}

void NumbersNetwork::describe(std::string dtype) {
  info_.architecture = kNumbersArchitecture;
  info_.input = InputKind::kNumbers;
  info_.unit = "row";
  info_.input_bytes = config_.features * sizeof(float);
  info_.numbers = config_.features;
  info_.dtype = std::move(dtype);
  for (std::size_t layer = 0; layer <= config_.layers(); ++layer) {
    LayerSizes sizes;
    sizes.rows = 1;
    sizes.cols = config_.width(layer);
    if (layer > 0) {
      sizes.operations = 2.0 * static_cast<double>(config_.width(layer - 1)) *
                         static_cast<double>(config_.width(layer));
      sizes.weight_bytes = parts_->bytes_of(layer - 1);
    }
    info_.sizes.push_back(sizes);
  }
  info_.more_sizes = {{"features", config_.features}, {"widest", config_.widest()}};
}

Result<std::shared_ptr<const NumbersNetwork>> NumbersNetwork::load(ModelFile file,
                                                                   const kernels::Kernels& kernels,
                                                                   const ModelOptions& options) {
  const std::shared_ptr<NumbersNetwork> made(new NumbersNetwork);
  made->path_ = file.bytes.name();
  made->kernels_ = &kernels;
  const auto bytes = std::make_shared<ModelBytes>(std::move(file.bytes));
  const Result<std::uint64_t> hash =
      check_file(*bytes, file.gguf, HashClaim::kRequired, options.check_whole,
                 [&] { return made->plan(file.gguf, bytes, options); });
  if (!hash.ok()) return hash.status();
  made->hash_ = *hash;
  if (Status s = bytes->check_same(file.header); !s.ok()) return s;
  return std::shared_ptr<const NumbersNetwork>(made);
}

Status NumbersNetwork::load_layers(std::size_t from, std::size_t to, bool exit_wanted) const {
  return parts_->load_layers(from, to, exit_wanted);
}

const Linear& NumbersNetwork::block(std::size_t layer) const {
  SPLITEE_CHECK(parts_->there(layer - 1));
  return blocks_[layer - 1];
}

const Linear& NumbersNetwork::classifier(std::size_t exit) const {
  SPLITEE_CHECK(parts_->there(config_.layers() + exit));
  return classifiers_[exit];
}

Result<Prepared> NumbersNetwork::prepare(const Input& input) const {
  if (input.kind != InputKind::kNumbers) {
    return invalid("the model takes numbers, not " + std::string(to_string(input.kind)));
  }
  Prepared prepared;
  prepared.length = 1;
  prepared.bytes.resize(input.bytes.size());
  std::memcpy(prepared.bytes.data(), input.bytes.data(), input.bytes.size());
  if (Status s = check_input(prepared.view()); !s.ok()) return s;
  return prepared;
}

Prepared NumbersNetwork::random_input(std::size_t, std::uint64_t seed) const {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Prepared prepared;
  prepared.length = 1;
  prepared.bytes.resize(config_.features * sizeof(float));
  for (std::size_t i = 0; i < config_.features; ++i) {
    const float value = mean_[i] + std_[i] * normal(random);
    std::memcpy(prepared.bytes.data() + i * sizeof value, &value, sizeof value);
  }
  return prepared;
}

Status NumbersNetwork::check_input(PreparedView input) const {
  if (input.length != 1 || input.bytes.size() != config_.features * sizeof(float)) {
    return invalid("a row of " + std::to_string(input.bytes.size() / sizeof(float)) +
                   " numbers; the model takes " + std::to_string(config_.features));
  }
  for (std::size_t i = 0; i < config_.features; ++i) {
    float value;
    std::memcpy(&value, input.bytes.data() + i * sizeof value, sizeof value);
    if (!std::isfinite(value)) return invalid("number " + std::to_string(i + 1) + " is not finite");
  }
  return {};
}

void NumbersNetwork::standardise(PreparedView input, float* x) const {
  std::memcpy(x, input.bytes.data(), input.bytes.size());
  for (std::size_t i = 0; i < config_.features; ++i) x[i] = (x[i] - mean_[i]) / std_[i];
}

std::unique_ptr<Engine> NumbersNetwork::make_engine(std::size_t threads) const {
  return std::make_unique<NumbersEngine>(shared_from_this(), threads);
}

std::unique_ptr<BatchEngine> NumbersNetwork::make_batch_engine(std::size_t max_samples,
                                                               std::size_t threads) const {
  return std::make_unique<NumbersBatchEngine>(shared_from_this(), max_samples, threads);
}

Result<std::shared_ptr<const Network>> load_numbers(ModelFile file, const kernels::Kernels& kernels,
                                                    const ModelOptions& options) {
  auto network = NumbersNetwork::load(std::move(file), kernels, options);
  if (!network.ok()) return network.status();
  return std::shared_ptr<const Network>(std::move(*network));
}

}  // namespace splitee::runtime

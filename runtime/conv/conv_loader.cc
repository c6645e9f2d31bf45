// A ConvNetwork from its file, and what it is as a Network.
#include <algorithm>
#include <cstring>
#include <random>

#include "runtime/conv/conv_engine.h"
#include "runtime/conv/conv_format.h"
#include "runtime/conv/conv_network.h"
#include "runtime/file/model_keys.h"
#include "runtime/image/image.h"
#include "runtime/weights/file_check.h"

namespace splitee::runtime {
namespace {

constexpr std::size_t kUnitBytes = 1024;  // of a file's length
constexpr std::size_t kWindow = 9;

Status invalid(const std::string& message) {
  return {Code::kInvalidArgument, message};
}

Status plan_conv(PartPlanner& planner, const std::string& name, std::size_t out, std::size_t in,
                 Linear& linear, PartPlan& plan) {
  return planner.plan_linear({name}, name, out, in, linear, plan);
}

std::size_t length_of(std::size_t bytes) {
  return (bytes + kUnitBytes - 1) / kUnitBytes;
}

}  // namespace

Status ConvNetwork::plan_block(PartPlanner& planner, std::size_t index, PartPlan& plan) {
  const ConvBlock& block = config_.blocks[index];
  ConvBlockWeights& to = blocks_[index];
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const std::size_t in = block.in.channels, out = block.out.channels, hidden = block.hidden;
  if (config_.inverted) {
    if (hidden != in) {
      Status s = plan_conv(planner, prefix + "expand", hidden, in, to.first, plan);
      if (!s.ok()) return s;
    }
    const std::string depthwise = prefix + "depthwise";
    Status s = planner.plan_vector(depthwise + ".weight", kWindow * hidden, 0, to.depthwise, plan);
    if (s.ok()) s = planner.plan_vector(depthwise + ".bias", hidden, 0, to.depthwise_bias, plan);
    if (s.ok()) s = plan_conv(planner, prefix + "project", out, hidden, to.second, plan);
    return s;
  }
  Status s = plan_conv(planner, prefix + "conv1", out, kWindow * in, to.first, plan);
  if (s.ok()) s = plan_conv(planner, prefix + "conv2", out, kWindow * out, to.second, plan);
  if (!s.ok() || block.stays() || !config_.projection) return s;
  return plan_conv(planner, prefix + "shortcut", out, in, to.shortcut, plan);
}

Status ConvNetwork::plan_exit(PartPlanner& planner, std::size_t index, PartPlan& plan) {
  const std::size_t layer = info_.exit_layers[index], own = config_.exit_channels[index];
  const std::string prefix = "splitee.exit." + std::to_string(layer) + ".";
  std::size_t channels = config_.map(layer).channels;
  if (own != 0) {
    Status s = plan_conv(planner, prefix + "conv", own, channels, exits_[index].conv, plan);
    if (!s.ok()) return s;
    channels = own;
  }
  return plan_conv(planner, prefix + "classifier", info_.classes(), channels,
                   exits_[index].classifier, plan);
}

Status ConvNetwork::plan(const Gguf& file, const std::shared_ptr<ModelBytes>& bytes,
                         const ModelOptions& options) {
  if (Status s = read_conv_config(file, config_, info_); !s.ok()) return s;
  if (info_.output != Output::kClasses) {
    return bad_key(file, kKeyOutput, ": exits on images tell classes only");
  }
  const std::size_t layers = config_.layers(), exits = info_.exits();
  blocks_.resize(layers);
  exits_.resize(exits);
  PartPlanner planner(file, *bytes);
  std::vector<PartPlan> plans(layers + exits);
  const std::size_t window = config_.stem_kernel * config_.stem_kernel;
  Status s = plan_conv(planner, "stem", config_.stem.channels, window * config_.input.channels,
                       stem_, plans.front());
  for (std::size_t i = 0; i < layers && s.ok(); ++i) s = plan_block(planner, i, plans[i]);
  for (std::size_t i = 0; i < exits && s.ok(); ++i) s = plan_exit(planner, i, plans[layers + i]);
  if (s.ok()) s = planner.check_all_used();
  if (!s.ok()) return s;
  // The stem may be kept finer than the blocks.
  std::string dtype(tensor_type_name(plans.front().linears.back().matrices.front().type));
  auto parts = WeightParts::create(bytes, file, *kernels_, std::move(plans), info_.exit_layers,
                                   options.exact);
  if (!parts.ok()) return parts.status();
  parts_ = std::move(*parts);
  describe(std::move(dtype));
  return load_layers(0, std::min(options.preload, layers));
}

void ConvNetwork::describe(std::string dtype) {
  info_.architecture = kConvArchitecture;
  info_.input = InputKind::kImage;
  info_.unit = "KiB";
  info_.unit_input_bytes = kUnitBytes;
  info_.max_length = kMaxImageBytes / kUnitBytes;
  info_.dtype = std::move(dtype);
  for (std::size_t layer = 0; layer <= config_.layers(); ++layer) {
    LayerSizes sizes;
    sizes.rows = config_.map(layer).pixels();
    sizes.cols = config_.map(layer).channels;
    if (layer > 0) {
      sizes.operations = conv_operations(config_, layer);
      sizes.weight_bytes = parts_->bytes_of(layer - 1);
    }
    info_.sizes.push_back(sizes);
  }
  info_.more_sizes = {{"input_height", config_.input.height}, {"input_width", config_.input.width}};
}

Result<std::shared_ptr<const ConvNetwork>> ConvNetwork::load(ModelFile file,
                                                             const kernels::Kernels& kernels,
                                                             const ModelOptions& options) {
  const std::shared_ptr<ConvNetwork> made(new ConvNetwork);
  made->path_ = file.bytes.name();
  made->kernels_ = &kernels;
  const auto bytes = std::make_shared<ModelBytes>(std::move(file.bytes));
  const Result<std::uint64_t> hash =
      check_file(*bytes, file.gguf, HashClaim::kRequired, options.check_whole,
                 [&] { return made->plan(file.gguf, bytes, options); });
  if (!hash.ok()) return hash.status();
  made->hash_ = *hash;
  if (Status s = bytes->check_same(file.header); !s.ok()) return s;
  return std::shared_ptr<const ConvNetwork>(made);
}

Status ConvNetwork::load_layers(std::size_t from, std::size_t to, bool exit_wanted) const {
  return parts_->load_layers(from, to, exit_wanted);
}

const Linear& ConvNetwork::stem() const {
  SPLITEE_CHECK(parts_->there(0));
  return stem_;
}

const ConvBlockWeights& ConvNetwork::block(std::size_t layer) const {
  SPLITEE_CHECK(parts_->there(layer - 1));
  return blocks_[layer - 1];
}

const ConvExitWeights& ConvNetwork::exit(std::size_t exit) const {
  SPLITEE_CHECK(parts_->there(config_.layers() + exit));
  return exits_[exit];
}

Result<Prepared> ConvNetwork::prepare(const Input& input) const {
  if (input.kind != InputKind::kImage) {
    return invalid("the model takes images, not " + std::string(to_string(input.kind)));
  }
  Prepared prepared;
  prepared.length = length_of(input.bytes.size());
  prepared.bytes.resize(input.bytes.size());
  std::memcpy(prepared.bytes.data(), input.bytes.data(), input.bytes.size());
  if (Status s = check_image_kind(prepared.bytes); !s.ok()) return s;
  return prepared;
}

Status ConvNetwork::decode(PreparedView input, std::vector<float>& decoded) const {
  decoded.resize(config_.input.size());
  return read_image({input.length, input.bytes}, decoded.data());
}

Prepared ConvNetwork::random_input(std::size_t, std::uint64_t seed) const {
  std::mt19937_64 random(seed);
  std::vector<std::uint8_t> rgb(config_.input.size());
  for (std::uint8_t& value : rgb) value = static_cast<std::uint8_t>(random());
  const std::string file = ppm_of(config_.input.width, config_.input.height, rgb);
  const auto bytes = std::as_bytes(std::span(file));
  return {length_of(file.size()), {bytes.begin(), bytes.end()}};
}

Status ConvNetwork::read_image(PreparedView input, float* x) const {
  if (input.length != length_of(input.bytes.size())) {
    return invalid("a picture of " + std::to_string(input.bytes.size()) + " bytes, said to have " +
                   std::to_string(input.length) + " KiB");
  }
  if (!input.decoded.empty()) {
    SPLITEE_CHECK(input.decoded.size() == config_.input.size());
    std::ranges::copy(input.decoded, x);
    return {};
  }
  const Result<Image> image = decode_image(input.bytes);
  if (!image.ok()) return image.status();
  const std::vector<float> pixels = resize(*image, config_.resize);
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    x[i] = (pixels[i] / 255.0f - config_.mean[i % 3]) / config_.std[i % 3];
  }
  return {};
}

std::unique_ptr<Engine> ConvNetwork::make_engine(std::size_t threads) const {
  return std::make_unique<ConvEngine>(shared_from_this(), threads);
}

std::unique_ptr<BatchEngine> ConvNetwork::make_batch_engine(std::size_t max_samples,
                                                            std::size_t threads) const {
  return std::make_unique<ConvBatchEngine>(shared_from_this(), max_samples, threads);
}

Result<std::shared_ptr<const Network>> load_conv(ModelFile file, const kernels::Kernels& kernels,
                                                 const ModelOptions& options) {
  auto network = ConvNetwork::load(std::move(file), kernels, options);
  if (!network.ok()) return network.status();
  return std::shared_ptr<const Network>(std::move(*network));
}

}  // namespace splitee::runtime

// A multi-exit convolutional network on images (file and formulas: runtime/conv/conv_format.h). A
// layer is a block. Prepared bytes are a picture's file as it came (runtime/image/image.h), its
// length counted in KiB, begun ones too: what is sent of a JPEG is the JPEG.
// Thread rule, ownership, errors: as runtime/network.h; weights are read when they are first used.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/conv/conv_config.h"
#include "runtime/file/model_bytes.h"
#include "runtime/network.h"
#include "runtime/weights/linear.h"
#include "runtime/weights/part_planner.h"
#include "runtime/weights/weight_parts.h"

namespace splitee::runtime {

// Not all of them are there in every block.
struct ConvBlockWeights {
  Linear first, second;  // basic: conv1, conv2; inverted: expand, project
  Linear shortcut;
  std::vector<float> depthwise, depthwise_bias;
};

struct ConvExitWeights {
  Linear conv;  // out is 0 where the exit has none
  Linear classifier;
};

class ConvNetwork final : public Network, public std::enable_shared_from_this<ConvNetwork> {
 public:
  static Result<std::shared_ptr<const ConvNetwork>> load(ModelFile file,
                                                         const kernels::Kernels& kernels,
                                                         const ModelOptions& options);

  const ConvConfig& config() const { return config_; }

  // Looks at the kind of file alone; decode() or begin() decodes it.
  Result<Prepared> prepare(const Input& input) const override;
  // `decoded`: as read_image() fills x.
  Status decode(PreparedView input, std::vector<float>& decoded) const override;
  // Of the network's own size, whatever `length`.
  Prepared random_input(std::size_t length, std::uint64_t seed) const override;
  Status load_all() const override { return parts_->load_all(); }
  std::unique_ptr<Engine> make_engine(std::size_t threads) const override;
  std::unique_ptr<BatchEngine> make_batch_engine(std::size_t max_samples,
                                                 std::size_t threads) const override;

  // The layers after `from` up to `to`, and the exit behind `to` if it has one and it is wanted.
  Status load_layers(std::size_t from, std::size_t to, bool exit_wanted = true) const;
  // Loaded before; our bug otherwise.
  const Linear& stem() const;
  const ConvBlockWeights& block(std::size_t layer) const;
  const ConvExitWeights& exit(std::size_t exit) const;

  // x (pixels of the input, 3): the picture at the network's size, normalised; a copy where it is
  // decoded already. Fails where it cannot be decoded, or its length is not that of its bytes.
  Status read_image(PreparedView input, float* x) const;

 private:
  ConvNetwork() = default;
  Status plan(const Gguf& file, const std::shared_ptr<ModelBytes>& bytes,
              const ModelOptions& options);
  Status plan_block(PartPlanner& planner, std::size_t index, PartPlan& plan);
  Status plan_exit(PartPlanner& planner, std::size_t index, PartPlan& plan);
  void describe(std::string dtype);

  ConvConfig config_;
  Linear stem_;
  std::vector<ConvBlockWeights> blocks_;
  std::vector<ConvExitWeights> exits_;
  std::unique_ptr<WeightParts> parts_;  // blocks, the stem with the first; then exits
};

// For runtime/loader.
Result<std::shared_ptr<const Network>> load_conv(ModelFile file, const kernels::Kernels& kernels,
                                                 const ModelOptions& options);

}  // namespace splitee::runtime

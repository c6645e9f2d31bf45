// A multi-exit network on rows of numbers: dense blocks with residual sums (file and formulas:
// runtime/numbers/numbers_format.h). A layer is a block. Prepared bytes are the numbers of a row,
// float32, little-endian, in the order of NetworkInfo::columns; its length is 1.
// Thread rule, ownership, errors: as runtime/network.h; weights are read when they are first used.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/file/model_bytes.h"
#include "runtime/network.h"
#include "runtime/weights/linear.h"
#include "runtime/weights/weight_parts.h"

namespace splitee::runtime {

struct NumbersConfig {
  std::size_t features = 0;
  std::vector<std::size_t> widths;  // of the blocks
  std::vector<bool> residual;       // of the blocks
  bool gelu = false;                // else ReLU

  std::size_t layers() const { return widths.size(); }
  // Of the output of `layer`, 0 .. layers().
  std::size_t width(std::size_t layer) const { return layer == 0 ? features : widths[layer - 1]; }
  std::size_t widest() const;
};

class NumbersNetwork final : public Network, public std::enable_shared_from_this<NumbersNetwork> {
 public:
  static Result<std::shared_ptr<const NumbersNetwork>> load(ModelFile file,
                                                            const kernels::Kernels& kernels,
                                                            const ModelOptions& options);

  const NumbersConfig& config() const { return config_; }

  Result<Prepared> prepare(const Input& input) const override;
  Prepared random_input(std::size_t length, std::uint64_t seed) const override;
  Status load_all() const override { return parts_->load_all(); }
  std::unique_ptr<Engine> make_engine(std::size_t threads) const override;
  std::unique_ptr<BatchEngine> make_batch_engine(std::size_t max_samples,
                                                 std::size_t threads) const override;

  // The layers after `from` up to `to`, and the exit behind `to` if it has one.
  Status load_layers(std::size_t from, std::size_t to, bool exit_wanted = true) const;
  // Loaded before; our bug otherwise.
  const Linear& block(std::size_t layer) const;
  const Linear& classifier(std::size_t exit) const;

  // Fails where the bytes are not `features` finite numbers.
  Status check_input(PreparedView input) const;
  // x (features): a checked input, standardised.
  void standardise(PreparedView input, float* x) const;

 private:
  NumbersNetwork() = default;
  Status read_keys(const Gguf& file);
  Status plan(const Gguf& file, const std::shared_ptr<ModelBytes>& bytes,
              const ModelOptions& options);
  void describe(std::string dtype);

  NumbersConfig config_;
  std::vector<float> mean_, std_;
  std::vector<Linear> blocks_, classifiers_;
  std::unique_ptr<WeightParts> parts_;  // blocks, then exits
};

// For runtime/loader.
Result<std::shared_ptr<const Network>> load_numbers(ModelFile file, const kernels::Kernels& kernels,
                                                    const ModelOptions& options);

}  // namespace splitee::runtime

// The weights of a network's layers and exits, read and packed when a sample first comes to them.
// Thread rule: load_layers(), load_all() and there() from any thread. Ownership: the plans name
// members of the network, which must stay where they are. Errors: those of ModelBytes; kIo where
// memory lacks.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/status.h"
#include "runtime/file/gguf.h"
#include "runtime/file/model_bytes.h"
#include "runtime/file/page_memory.h"
#include "runtime/weights/weight_loader.h"

namespace splitee::runtime {

class WeightParts {
 public:
  // plans: a network's layers, then its exits, which read layers `exit_layers` (1-based). An exit
  // is placed behind its layer: what samples run through after each other leaves no gaps, which
  // huge pages would fill. `exact`: everything in fp32.
  static Result<std::unique_ptr<WeightParts>> create(
      std::shared_ptr<const ModelBytes> bytes, const Gguf& file, const kernels::Kernels& kernels,
      std::vector<PartPlan> plans, std::vector<std::size_t> exit_layers, bool exact);

  // Reads what is not there yet of the layers after `from` up to `to`, and of the exit behind `to`
  // if it has one and it is wanted.
  Status load_layers(std::size_t from, std::size_t to, bool exit_wanted) const;
  Status load_all() const;
  bool there(std::size_t part) const { return parts_[part].there.load(std::memory_order_acquire); }
  // Of the packed weights of a part.
  std::size_t bytes_of(std::size_t part) const { return packed_bytes(parts_[part].plan).value(); }
  const ModelBytes& bytes() const { return *bytes_; }

 private:
  struct Part {
    PartPlan plan;
    std::size_t packed_offset = 0;  // in packed_
    mutable std::atomic<bool> there{false};
  };

  WeightParts(std::shared_ptr<const ModelBytes> bytes, const kernels::Kernels& kernels,
              std::vector<PartPlan> plans, std::vector<std::size_t> exit_layers);
  std::size_t layers() const { return parts_.size() - exit_layers_.size(); }
  // In the order in which they are placed.
  std::vector<Part*> placed();
  Status load(std::vector<const Part*> missing) const;

  std::shared_ptr<const ModelBytes> bytes_;
  const kernels::Kernels& kernels_;
  std::vector<Part> parts_;
  std::vector<std::size_t> exit_layers_;
  PageMemory packed_;         // the weights of all parts, each part's touched when it is read
  mutable std::mutex mutex_;  // of reading parts
};

}  // namespace splitee::runtime

// Reads the weights of one part of a model (a layer, an exit) from the checked file and packs them
// for the kernels. Internal to networks.
// Thread rule: one thread; it has helper threads for large models.
// Ownership: plans borrow the network's members that they fill.
// Errors: those of ModelBytes; kIo where memory lacks; kCorrupt for values that are not finite.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/checked_size.h"
#include "runtime/file/gguf.h"
#include "runtime/file/model_bytes.h"
#include "runtime/thread_pool.h"
#include "runtime/weights/linear.h"

namespace splitee::runtime {

// A tensor of the file, without the header that named it.
struct TensorPlace {
  std::string name;
  TensorType type = TensorType::kF32;
  std::size_t rows = 0, cols = 1;
  std::size_t offset = 0, size_bytes = 0;
};

// A vector to read into `to`, from `first` on.
struct VectorPlan {
  TensorPlace tensor;
  std::vector<float>* to = nullptr;
  std::size_t first = 0;
};

// A Linear whose rows are those of `matrices`, one after the other. scales: per matrix, of kI8.
// input_scales: none, or one for matrices that are all kI8.
struct LinearPlan {
  Linear* to = nullptr;
  std::vector<TensorPlace> matrices;
  std::vector<TensorPlace> scales;
  std::optional<TensorPlace> input_scales;
};

struct PartPlan {
  std::vector<VectorPlan> vectors;
  std::vector<LinearPlan> linears;
};

// Elements of a tensor that is not I8.
Status read_floats(ModelReader& reader, const TensorPlace& tensor, std::span<float> out);
// Scales (matrix.rows) of an I8 matrix; also checks that they give finite values.
Status read_scales(ModelReader& reader, const TensorPlace& matrix, const TensorPlace& place,
                   std::span<float> scales);
// values (scales.size(), cols): each row times its scale. No scales: nothing.
void scale_rows(std::span<float> values, std::span<const float> scales);

// Chooses the kernels of the plan's Linears: the arithmetic of their matrices' type, or fp32 for
// all where `exact`.
void choose_kernels(const PartPlan& plan, const kernels::Kernels& kernels, bool exact);

// Bytes of the packed weights of a plan with its kernels chosen.
CheckedSize packed_bytes(const PartPlan& plan);

class WeightLoader {
 public:
  // All borrowed. It takes the threads that loading `packed_bytes` is worth.
  WeightLoader(const ModelBytes& bytes, const kernels::Kernels& kernels, std::size_t packed_bytes);

  // Fills what the plan names; `packed`, of packed_bytes(), holds the weights afterwards.
  Status load(const PartPlan& plan, std::byte* packed);

 private:
  struct Worker {
    ModelReader reader;
    std::vector<float> floats;
  };
  class Packer;

  Status load_linear(const LinearPlan& plan, std::byte* packed);

  const ModelBytes& bytes_;
  const kernels::Kernels& kernels_;
  ThreadPool pool_;
  std::vector<Worker> workers_;  // one per thread
};

}  // namespace splitee::runtime

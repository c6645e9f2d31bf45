// Finds the tensors of a network in its file, and makes plans of reading them (weight_loader.h).
// Thread rule: one thread. Ownership: borrows both arguments. Errors: kCorrupt and kUnsupported,
// naming the file and the tensor.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/file/gguf.h"
#include "runtime/file/model_bytes.h"
#include "runtime/weights/weight_loader.h"

namespace splitee::runtime {

class PartPlanner {
 public:
  PartPlanner(const Gguf& file, const ModelBytes& bytes)
      : file_(file), bytes_(bytes), used_(file.tensors().size(), false) {}

  // The tensor `name`, of exactly this shape.
  Result<TensorPlace> take(const std::string& name, std::initializer_list<std::size_t> shape);
  // The same; not I8.
  Result<TensorPlace> take_vector(const std::string& name, std::size_t size);
  // Into `to`, from `first` on, when the part is read.
  Status plan_vector(const std::string& name, std::size_t size, std::size_t first,
                     std::vector<float>& to, PartPlan& plan);
  // NAME.weight and NAME.bias, both (size).
  Status plan_norm(const std::string& name, std::size_t size, LayerNorm& norm, PartPlan& plan);
  // NAME.weight (linear.out, in) and NAME.bias; or, of several names, equal shares of the rows.
  // The product's input scales, where there are any, are called INPUT.input_scale.
  Status plan_linear(std::initializer_list<std::string> names, const std::string& input,
                     std::size_t out, std::size_t in, Linear& linear, PartPlan& plan);

  // Read at once: the scales of an I8 matrix (none for other types), a vector, a matrix of floats.
  Status read_scales_of(const TensorPlace& matrix, std::vector<float>& scales);
  Status read_vector(const std::string& name, std::size_t size, std::vector<float>& to);
  Status read_table(const std::string& name, std::size_t rows, std::size_t cols,
                    std::vector<float>& to);

  // Fails where the file has a tensor that was not asked for.
  Status check_all_used() const;

 private:
  Status plan_input_scales(const std::string& input, LinearPlan& linear);

  const Gguf& file_;
  const ModelBytes& bytes_;
  std::vector<bool> used_;  // per tensor of the file
};

}  // namespace splitee::runtime

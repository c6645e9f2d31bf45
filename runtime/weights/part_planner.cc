#include "runtime/weights/part_planner.h"

#include <algorithm>
#include <string_view>

#include "base/checked_size.h"
#include "runtime/file/model_keys.h"

namespace splitee::runtime {

Status PartPlanner::check_all_used() const {
  const auto it = std::find(used_.begin(), used_.end(), false);
  if (it == used_.end()) return {};
  const auto index = static_cast<std::size_t>(it - used_.begin());
  return file_.error(Code::kUnsupported, "tensor " + std::string(file_.tensors()[index].name) +
                                             " has no place in this model");
}

Result<TensorPlace> PartPlanner::take(const std::string& name,
                                      std::initializer_list<std::size_t> shape) {
  const GgufTensor* tensor = file_.find_tensor(name);
  if (tensor == nullptr) return file_.error(Code::kCorrupt, "tensor " + name + " is missing");
  const auto found = std::span(tensor->dims).first(tensor->rank);
  // llama.cpp stores a matrix of one row as a vector.
  const bool one_row = shape.size() == 2 && *shape.begin() == 1 && found.size() == 1 &&
                       found[0] == *(shape.begin() + 1);
  if (!one_row && !std::equal(found.begin(), found.end(), shape.begin(), shape.end())) {
    return file_.error(Code::kCorrupt, "tensor " + name + ": expected shape " +
                                           shape_text({shape.begin(), shape.size()}) + ", found " +
                                           shape_text(found));
  }
  used_[static_cast<std::size_t>(tensor - file_.tensors().data())] = true;
  const std::size_t rows = *shape.begin(), cols = shape.size() == 2 ? *(shape.begin() + 1) : 1;
  return TensorPlace{name, tensor->type, rows, cols, tensor->offset, tensor->size_bytes};
}

Result<TensorPlace> PartPlanner::take_vector(const std::string& name, std::size_t size) {
  Result<TensorPlace> tensor = take(name, {size});
  if (tensor.ok() && tensor->type == TensorType::kI8) {
    return file_.error(Code::kUnsupported, "tensor " + name + " is a vector of i8");
  }
  return tensor;
}

Status PartPlanner::plan_vector(const std::string& name, std::size_t size, std::size_t first,
                                std::vector<float>& to, PartPlan& plan) {
  const Result<TensorPlace> tensor = take_vector(name, size);
  if (!tensor.ok()) return tensor.status();
  to.resize(std::max(to.size(), first + size));
  plan.vectors.push_back({*tensor, &to, first});
  return {};
}

Status PartPlanner::plan_norm(const std::string& name, std::size_t size, LayerNorm& norm,
                              PartPlan& plan) {
  if (Status s = plan_vector(name + ".weight", size, 0, norm.gamma, plan); !s.ok()) return s;
  return plan_vector(name + ".bias", size, 0, norm.beta, plan);
}

Status PartPlanner::plan_input_scales(const std::string& input, LinearPlan& linear) {
  const std::string name = input + std::string(kInputScaleSuffix);
  if (file_.find_tensor(name) == nullptr) return {};
  for (const TensorPlace& matrix : linear.matrices) {
    if (matrix.type == TensorType::kI8) continue;
    return file_.error(Code::kUnsupported, "tensor " + name + " goes with matrices of i8, and " +
                                               matrix.name + " is none");
  }
  const Result<TensorPlace> place = take_vector(name, linear.to->in);
  if (!place.ok()) return place.status();
  linear.input_scales = *place;
  return {};
}

Status PartPlanner::plan_linear(std::initializer_list<std::string> names, const std::string& input,
                                std::size_t out, std::size_t in, Linear& linear, PartPlan& plan) {
  const std::size_t rows = out / names.size();
  linear.out = out;
  linear.in = in;
  LinearPlan parts{&linear, {}, {}, {}};
  std::size_t first = 0;
  for (const std::string& name : names) {
    const Result<TensorPlace> matrix = take(name + ".weight", {rows, in});
    if (!matrix.ok()) return matrix.status();
    parts.matrices.push_back(*matrix);
    parts.scales.emplace_back();
    if (matrix->type == TensorType::kI8) {
      const Result<TensorPlace> scales =
          take_vector(matrix->name + std::string(kScaleSuffix), rows);
      if (!scales.ok()) return scales.status();
      parts.scales.back() = *scales;
    }
    if (Status s = plan_vector(name + ".bias", rows, first, linear.bias, plan); !s.ok()) return s;
    first += rows;
  }
  if (Status s = plan_input_scales(input, parts); !s.ok()) return s;
  plan.linears.push_back(std::move(parts));
  return {};
}

Status PartPlanner::read_table(const std::string& name, std::size_t rows, std::size_t cols,
                               std::vector<float>& table) {
  const Result<TensorPlace> tensor = take(name, {rows, cols});
  if (!tensor.ok()) return tensor.status();
  std::vector<float> scales;
  if (Status s = read_scales_of(*tensor, scales); !s.ok()) return s;
  const CheckedSize size = CheckedSize(rows) * cols;
  if (!(size * sizeof(float)).ok()) {
    return file_.error(Code::kUnsupported, "tensor " + name + " is too large for this machine");
  }
  table.resize(size.value());
  ModelReader reader(bytes_);
  if (Status s = read_floats(reader, *tensor, table); !s.ok()) return s;
  scale_rows(table, scales);
  return {};
}

Status PartPlanner::read_scales_of(const TensorPlace& matrix, std::vector<float>& scales) {
  if (matrix.type != TensorType::kI8) return {};
  const Result<TensorPlace> place =
      take_vector(matrix.name + std::string(kScaleSuffix), matrix.rows);
  if (!place.ok()) return place.status();
  scales.resize(matrix.rows);
  ModelReader reader(bytes_);
  return read_scales(reader, matrix, *place, scales);
}

Status PartPlanner::read_vector(const std::string& name, std::size_t size, std::vector<float>& to) {
  const Result<TensorPlace> tensor = take_vector(name, size);
  if (!tensor.ok()) return tensor.status();
  to.resize(size);
  ModelReader reader(bytes_);
  return read_floats(reader, *tensor, to);
}

}  // namespace splitee::runtime

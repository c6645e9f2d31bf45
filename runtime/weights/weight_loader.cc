#include "runtime/weights/weight_loader.h"

#include <algorithm>
#include <new>

#include "runtime/file/dequantize.h"
#include "runtime/file/model_keys.h"

namespace splitee::runtime {
namespace {

constexpr std::size_t kAlignment = 64;

Status error(const ModelBytes& bytes, Code code, const std::string& message) {
  return {code, bytes.name() + ": " + message};
}

Status not_finite(const ModelBytes& bytes, const TensorPlace& tensor) {
  return error(bytes, Code::kCorrupt,
               "tensor " + tensor.name + " holds a value that is not finite");
}

// The arithmetic of matrices of these types, which are one product.
const kernels::Matmul& choose_kernel(const kernels::Kernels& kernels, const LinearPlan& plan,
                                     bool exact) {
  const TensorType type = plan.matrices.front().type;
  const bool same = std::all_of(plan.matrices.begin(), plan.matrices.end(),
                                [type](const TensorPlace& m) { return m.type == type; });
  if (same && !exact && type == TensorType::kI8) return kernels.i8;
  if (same && !exact && type == TensorType::kBf16) return kernels.bf16;
  return kernels.f32;
}

// values (rows, scales.size()): each column times its scale. No scales: nothing.
void scale_columns(std::span<float> values, std::span<const float> scales) {
  for (; !scales.empty() && !values.empty(); values = values.subspan(scales.size())) {
    for (std::size_t i = 0; i < scales.size(); ++i) values[i] *= scales[i];
  }
}

Status read_input_scales(ModelReader& reader, const TensorPlace& place, std::span<float> scales) {
  if (Status s = read_floats(reader, place, scales); !s.ok()) return s;
  const auto good = [](float scale) {
    return scale >= kLeastInputScale && scale <= kMostInputScale;
  };
  if (std::all_of(scales.begin(), scales.end(), good)) return {};
  return error(reader.bytes(), Code::kCorrupt,
               "tensor " + place.name + " holds a value that is not from 1e-4 to 1e4");
}

CheckedSize packed_bytes(const Linear& linear) {
  // The kernel multiplies unchecked. Of what it packs, a value takes 4 bytes at most, and a column
  // has a few of its own; 32 bits are too few where a large matrix is stored in fewer bytes.
  constexpr std::size_t kValuesBeside = 16;
  const CheckedSize most = (CheckedSize(linear.out) + linear.kernel->columns) *
                           (CheckedSize(linear.in) + kValuesBeside) * sizeof(float);
  if (!most.ok()) return most;
  return CheckedSize(linear.kernel->packed_bytes(linear.out, linear.in)).round_up(kAlignment);
}

}  // namespace

// Packs one Linear, some of its rows per call.
class WeightLoader::Packer {
 public:
  Packer(const LinearPlan& plan, const kernels::Kernels& kernels, std::byte* packed)
      : plan_(plan),
        linear_(*plan.to),
        floats_wanted_(linear_.kernel == &kernels.f32),
        packed_(packed) {}

  Status read_scales(ModelReader& reader);
  // What the product's input is to be multiplied by; weights that are floats hold it already.
  std::vector<float> input_scales() const {
    return floats_wanted_ ? std::vector<float>() : input_scales_;
  }

  // Rows that a thread reads at once: some that fit the second-level cache, in whole panels.
  std::size_t rows_at_once() const {
    constexpr std::size_t kBytes = std::size_t{256} << 10;
    const std::size_t columns = linear_.kernel->columns;
    const std::size_t row_bytes = linear_.in * sizeof(float);
    return std::max<std::size_t>(1, kBytes / row_bytes / columns) * columns;
  }

  // Rows [begin, end) of the Linear.
  Status pack(Worker& worker, std::size_t begin, std::size_t end) const;

 private:
  // Rows [begin, end) of a matrix, which are the Linear's from `row` on.
  Status pack_of(std::size_t index, Worker& worker, std::size_t begin, std::size_t end,
                 std::size_t row) const;

  const LinearPlan& plan_;
  const Linear& linear_;
  const bool floats_wanted_;  // else the elements as they are stored
  std::byte* packed_;
  std::vector<std::vector<float>> scales_;  // per matrix
  std::vector<float> input_scales_;
};

Status WeightLoader::Packer::read_scales(ModelReader& reader) {
  scales_.resize(plan_.matrices.size());
  for (std::size_t i = 0; i < scales_.size(); ++i) {
    if (plan_.matrices[i].type != TensorType::kI8) continue;
    scales_[i].resize(plan_.matrices[i].rows);
    if (Status s = runtime::read_scales(reader, plan_.matrices[i], plan_.scales[i], scales_[i]);
        !s.ok()) {
      return s;
    }
  }
  if (!plan_.input_scales) return {};
  input_scales_.resize(linear_.in);
  return read_input_scales(reader, *plan_.input_scales, input_scales_);
}

Status WeightLoader::Packer::pack(Worker& worker, std::size_t begin, std::size_t end) const {
  std::size_t first = 0;  // row of the Linear that the matrix starts with
  for (std::size_t i = 0; i < plan_.matrices.size(); ++i) {
    const std::size_t rows = plan_.matrices[i].rows;
    const std::size_t from = std::max(begin, first), to = std::min(end, first + rows);
    if (from < to) {
      if (Status s = pack_of(i, worker, from - first, to - first, from); !s.ok()) return s;
    }
    first += rows;
  }
  return {};
}

Status WeightLoader::Packer::pack_of(std::size_t index, Worker& worker, std::size_t begin,
                                     std::size_t end, std::size_t row) const {
  const TensorPlace& matrix = plan_.matrices[index];
  const std::size_t row_bytes = matrix.size_bytes / matrix.rows, rows = end - begin;
  std::span<const std::byte> data;
  if (Status s = worker.reader.view(matrix.offset + begin * row_bytes, rows * row_bytes, data);
      !s.ok()) {
    return s;
  }
  const float* scales = scales_[index].empty() ? nullptr : scales_[index].data() + begin;
  if (!floats_wanted_ || matrix.type == TensorType::kF32) {
    linear_.kernel->pack_rows(data.data(), scales, row, rows, linear_.out, linear_.in, packed_);
    return {};
  }
  std::vector<float>& floats = worker.floats;
  floats.resize(rows * linear_.in);
  to_floats(matrix.type, data, 0, floats);
  if (scales != nullptr) scale_rows(floats, {scales, rows});
  scale_columns(floats, input_scales_);
  linear_.kernel->pack_rows(floats.data(), nullptr, row, rows, linear_.out, linear_.in, packed_);
  return {};
}

void choose_kernels(const PartPlan& plan, const kernels::Kernels& kernels, bool exact) {
  for (const LinearPlan& linear : plan.linears) {
    linear.to->kernel = &choose_kernel(kernels, linear, exact);
  }
}

CheckedSize packed_bytes(const PartPlan& plan) {
  CheckedSize total = 0;
  for (const LinearPlan& linear : plan.linears) total = total + packed_bytes(*linear.to);
  return total;
}

WeightLoader::WeightLoader(const ModelBytes& bytes, const kernels::Kernels& kernels,
                           std::size_t packed_bytes)
    : bytes_(bytes),
      kernels_(kernels),
      pool_(loading_threads(packed_bytes)),
      workers_(pool_.threads(), Worker{ModelReader(bytes), {}}) {}

Status WeightLoader::load(const PartPlan& plan, std::byte* packed) {
  for (const VectorPlan& vector : plan.vectors) {
    const auto to = std::span(*vector.to).subspan(vector.first, vector.tensor.rows);
    if (Status s = read_floats(workers_[0].reader, vector.tensor, to); !s.ok()) return s;
  }
  for (const LinearPlan& linear : plan.linears) {
    if (Status s = load_linear(linear, packed); !s.ok()) return s;
    packed += packed_bytes(*linear.to).value();
  }
  return {};
}

Status WeightLoader::load_linear(const LinearPlan& plan, std::byte* packed) {
  Packer packer(plan, kernels_, packed);
  if (Status s = packer.read_scales(workers_[0].reader); !s.ok()) return s;
  const std::size_t out = plan.to->out, step = packer.rows_at_once();
  std::vector<Status> problems(workers_.size());
  pool_.share(
      (out + step - 1) / step, 1, [&](std::size_t worker, std::size_t begin, std::size_t end) {
        Status& problem = problems[worker];
        try {
          for (std::size_t i = begin; i < end && problem.ok(); ++i) {
            problem = packer.pack(workers_[worker], i * step, std::min((i + 1) * step, out));
          }
        } catch (const std::bad_alloc&) {
          problem = error(bytes_, Code::kIo, "not enough memory to read it");
        }
      });
  for (const Status& problem : problems) {
    if (!problem.ok()) return problem;
  }
  plan.to->packed = packed;
  plan.to->input_scales = packer.input_scales();
  return {};
}

Status read_floats(ModelReader& reader, const TensorPlace& tensor, std::span<float> out) {
  std::span<const std::byte> data;
  if (Status s = reader.view(tensor.offset, tensor.size_bytes, data); !s.ok()) return s;
  to_floats(tensor.type, data, 0, out);
  return all_finite(out) ? Status() : not_finite(reader.bytes(), tensor);
}

Status read_scales(ModelReader& reader, const TensorPlace& matrix, const TensorPlace& place,
                   std::span<float> scales) {
  if (Status s = read_floats(reader, place, scales); !s.ok()) return s;
  constexpr float kLargest = 128 * kMostInputScale;  // of an element, times its column's scale
  for (const float scale : scales) {
    const float largest = scale * kLargest;
    if (!all_finite({&largest, 1})) return not_finite(reader.bytes(), matrix);
  }
  return {};
}

void scale_rows(std::span<float> values, std::span<const float> scales) {
  if (scales.empty()) return;
  const std::size_t cols = values.size() / scales.size();
  for (std::size_t r = 0; r < scales.size(); ++r) {
    for (float& value : values.subspan(r * cols, cols)) value *= scales[r];
  }
}

}  // namespace splitee::runtime

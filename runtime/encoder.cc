#include "runtime/encoder.h"

#include <algorithm>
#include <new>
#include <numeric>

#include "runtime/thread_pool.h"

namespace splitee::runtime {
namespace {

constexpr std::align_val_t kAlignment{64};

// Bytes of a row that is prepared for any product of this model.
std::size_t prepared_bytes(const Model& model) {
  const std::size_t widest = std::max(model.config().hidden, model.config().ffn);
  std::size_t most = 0;
  for (const kernels::Matmul* matmul :
       {&model.kernels().f32, &model.kernels().bf16, &model.kernels().i8}) {
    if (matmul->prepare != nullptr) most = std::max(most, matmul->prepared_bytes(widest));
  }
  return most;
}

// Bytes between the rows that a product reads.
std::size_t operand_stride(const Linear& linear) {
  return linear.kernel->prepare == nullptr ? linear.in * sizeof(float)
                                           : linear.kernel->prepared_bytes(linear.in);
}

// Prepares rows [begin, end) of a (rows, linear.in), where the kernel asks for it.
void prepare_rows(const Linear& linear, const float* a, std::size_t begin, std::size_t end,
                  std::byte* prepared) {
  if (linear.kernel->prepare == nullptr) return;
  linear.kernel->prepare(a + begin * linear.in, linear.in, end - begin, linear.in,
                         prepared + begin * operand_stride(linear));
}

// What is worth handing to another thread: some microseconds of work.
// Rows of an operation on rows.
std::size_t row_grain(std::size_t cols) {
  constexpr std::size_t kElements = 1 << 14;
  return 1 + kElements / cols;
}
// Panels of a product: reading their weights takes as long as multiplying them by some rows.
std::size_t panel_grain(std::size_t rows, std::size_t in, std::size_t columns) {
  constexpr std::size_t kProducts = 1 << 20, kReading = 16;
  return 1 + kProducts / ((rows + kReading) * in * columns);
}

}  // namespace

void Encoder::FreeAligned::operator()(void* memory) const {
  ::operator delete(memory, kAlignment);
}

template <class T>
Encoder::Buffer<T> Encoder::allocate(std::size_t count) {
  return Buffer<T>(static_cast<T*>(::operator new(count * sizeof(T), kAlignment)));
}

Encoder::Buffers::Buffers(const Model& model, std::size_t rows) {
  const std::size_t hidden = model.config().hidden;
  x = allocate<float>(rows * hidden);
  context = allocate<float>(rows * hidden);
  sum = allocate<float>(rows * hidden);
  wide = allocate<float>(rows * std::max(3 * hidden, model.config().ffn));
  prepared = allocate<std::byte>(rows * prepared_bytes(model));
}

Encoder::Encoder(const Model& model, std::size_t max_rows, std::size_t max_samples,
                 std::size_t threads)
    : model_(model),
      hidden_(model.config().hidden),
      all_(model, max_rows),
      first_(model, max_samples),
      row_numbers_(model.config().max_tokens),
      scratch_size_(model.kernels().attention_scratch(
          model.config().max_tokens, model.config().max_tokens, hidden_ / model.config().heads)),
      pooled_(allocate<float>(max_samples * hidden_)),
      logits_(allocate<float>(max_samples * model.config().classes)),
      pool_(std::make_unique<ThreadPool>(threads)) {
  scratch_ = allocate<float>(pool_->threads() * scratch_size_);
  std::iota(row_numbers_.begin(), row_numbers_.end(), 0);
}

Encoder::~Encoder() = default;

Status Encoder::embed(std::span<const std::int32_t> ids, std::span<const std::int32_t> types,
                      std::size_t begin) {
  float* x = rows() + begin * hidden_;
  float* words = all_.context.get() + begin * hidden_;
  if (Status s = model_.gather_words(ids, {words, ids.size() * hidden_}); !s.ok()) return s;
  model_.kernels().embed(row_numbers_.data(), types.data(), words,
                         model_.position_embeddings().data(), model_.type_embeddings().data(), x,
                         ids.size(), hidden_);
  const LayerNorm& norm = model_.embedding_norm();
  model_.kernels().layer_norm(x, hidden_, nullptr, 0, norm.gamma.data(), norm.beta.data(),
                              model_.config().layer_norm_epsilon, x, hidden_, ids.size(), hidden_);
  return {};
}

void Encoder::run_layer(const EncoderLayer& layer, std::span<const SampleRows> samples) {
  const std::size_t rows = samples.back().begin + samples.back().count;
  const void* x = prepare(layer.qkv, all_.x.get(), rows, all_);
  multiply(layer.qkv, x, all_.wide.get(), rows, 0, layer.qkv.out);
  attend(layer.qkv, samples, false);
  finish(layer, all_, rows);
}

void Encoder::run_first(const EncoderLayer& layer, std::span<const SampleRows> samples) {
  const std::size_t rows = samples.back().begin + samples.back().count;
  take_first(samples);
  const void* first = prepare(layer.qkv, first_.x.get(), samples.size(), first_);
  multiply(layer.qkv, first, first_.wide.get(), samples.size(), 0, query_columns(layer.qkv, true));
  const void* x = prepare(layer.qkv, all_.x.get(), rows, all_);
  multiply(layer.qkv, x, all_.wide.get(), rows, query_columns(layer.qkv, false), layer.qkv.out);
  attend(layer.qkv, samples, true);
  finish(layer, first_, samples.size());
}

void Encoder::run_rest(const EncoderLayer& layer, std::span<const SampleRows> samples) {
  const std::size_t rows = samples.back().begin + samples.back().count;
  const void* x = prepare(layer.qkv, all_.x.get(), rows, all_);
  multiply(layer.qkv, x, all_.wide.get(), rows, 0, query_columns(layer.qkv, false));
  attend(layer.qkv, samples, false);
  finish(layer, all_, rows);
}

void Encoder::take_first(std::span<const SampleRows> samples, std::size_t first) {
  float* to = first_.x.get() + first * hidden_;
  for (const SampleRows& sample : samples) {
    to = std::copy_n(rows() + sample.begin * hidden_, hidden_, to);
  }
}

std::span<const float> Encoder::evaluate_exit(const ExitHead& exit, const float* x,
                                              std::size_t count) {
  const std::size_t classes = model_.config().classes;
  multiply(exit.pooler, prepare(exit.pooler, x, count, first_), pooled_.get(), count, 0, hidden_);
  // Row by row: a row's result must not depend on the rows beside it.
  for (std::size_t i = 0; i < count; ++i) {
    model_.kernels().tanh(pooled_.get() + i * hidden_, hidden_);
  }
  multiply(exit.classifier, prepare(exit.classifier, pooled_.get(), count, first_), logits_.get(),
           count, 0, classes);
  for (std::size_t i = 0; i < count * classes; ++i) logits_[i] /= exit.temperature;
  model_.kernels().softmax(logits_.get(), classes, count, classes);
  return {logits_.get(), count * classes};
}

void Encoder::attend(const Linear& qkv, std::span<const SampleRows> samples, bool first_only) {
  const kernels::Kernels& kernels = model_.kernels();
  const auto attention = qkv.kernel == &kernels.f32 ? kernels.attention : kernels.attention_bf16;
  const std::size_t heads = model_.config().heads, stride = 3 * hidden_;
  pool_->share(samples.size() * heads, 1,
               [&](std::size_t worker, std::size_t begin, std::size_t end) {
                 for (std::size_t item = begin; item < end; ++item) {
                   const std::size_t number = item / heads, head = item % heads;
                   const SampleRows& sample = samples[number];
                   const float* all = all_.wide.get() + sample.begin * stride;
                   const float* q = first_only ? first_.wide.get() + number * stride : all;
                   float* out = first_only ? first_.context.get() + number * hidden_
                                           : all_.context.get() + sample.begin * hidden_;
                   attention(q, stride, all + hidden_, stride, all + 2 * hidden_, stride, out,
                             hidden_, first_only ? 1 : sample.count, sample.count, hidden_ / heads,
                             head, head + 1, scratch_.get() + worker * scratch_size_);
                 }
               });
}

void Encoder::finish(const EncoderLayer& layer, Buffers& part, std::size_t rows) {
  multiply(layer.attention_output, prepare(layer.attention_output, part.context.get(), rows, part),
           part.sum.get(), rows, 0, hidden_);
  add_and_norm(part, rows, layer.attention_norm, &layer.up);
  const void* x = layer.up.kernel->prepare == nullptr ? static_cast<const void*>(part.x.get())
                                                      : part.prepared.get();
  multiply(layer.up, x, part.wide.get(), rows, 0, layer.up.out, kernels::Epilogue::kGelu);
  multiply(layer.down, prepare(layer.down, part.wide.get(), rows, part), part.sum.get(), rows, 0,
           hidden_);
  add_and_norm(part, rows, layer.output_norm, nullptr);
}

void Encoder::add_and_norm(Buffers& part, std::size_t rows, const LayerNorm& norm,
                           const Linear* next) {
  pool_->share(rows, row_grain(hidden_), [&](std::size_t, std::size_t begin, std::size_t end) {
    float* x = part.x.get() + begin * hidden_;
    model_.kernels().layer_norm(
        x, hidden_, part.sum.get() + begin * hidden_, hidden_, norm.gamma.data(), norm.beta.data(),
        model_.config().layer_norm_epsilon, x, hidden_, end - begin, hidden_);
    if (next != nullptr) prepare_rows(*next, part.x.get(), begin, end, part.prepared.get());
  });
}

const void* Encoder::prepare(const Linear& linear, const float* a, std::size_t rows,
                             Buffers& part) {
  if (linear.kernel->prepare == nullptr) return a;
  pool_->share(rows, row_grain(linear.in), [&](std::size_t, std::size_t begin, std::size_t end) {
    prepare_rows(linear, a, begin, end, part.prepared.get());
  });
  return part.prepared.get();
}

void Encoder::multiply(const Linear& linear, const void* a, float* c, std::size_t rows,
                       std::size_t begin, std::size_t end, kernels::Epilogue epilogue) {
  const kernels::Matmul& kernel = *linear.kernel;
  const std::size_t panels = (end - begin + kernel.columns - 1) / kernel.columns;
  const std::size_t grain = panel_grain(rows, linear.in, kernel.columns);
  pool_->share(panels, grain, [&](std::size_t, std::size_t first, std::size_t last) {
    kernel.multiply({.a = a,
                     .a_stride_bytes = operand_stride(linear),
                     .packed = linear.packed,
                     .bias = linear.bias.data(),
                     .c = c,
                     .c_stride = linear.out,
                     .m = rows,
                     .n = linear.out,
                     .k = linear.in,
                     .n_begin = begin + first * kernel.columns,
                     .n_end = std::min(begin + last * kernel.columns, end),
                     .epilogue = epilogue});
  });
}

std::size_t Encoder::query_columns(const Linear& qkv, bool round_up) const {
  const std::size_t columns = qkv.kernel->columns;
  return std::min((hidden_ + (round_up ? columns - 1 : 0)) / columns * columns, qkv.out);
}

}  // namespace splitee::runtime

#include "runtime/encoder.h"

#include <algorithm>

#include "runtime/thread_pool.h"

namespace splitee::runtime {
namespace {

std::unique_ptr<float[]> allocate(std::size_t floats) {
  return std::make_unique_for_overwrite<float[]>(floats);
}

}  // namespace

Encoder::Buffers::Buffers(std::size_t rows, std::size_t hidden, std::size_t widest)
    : x(allocate(rows * hidden)),
      context(allocate(rows * hidden)),
      sum(allocate(rows * hidden)),
      wide(allocate(rows * widest)) {}

Encoder::Encoder(const Model& model, std::size_t max_rows, std::size_t max_samples,
                 std::size_t threads)
    : model_(model),
      hidden_(model.config().hidden),
      all_(max_rows, hidden_, std::max(3 * hidden_, model.config().ffn)),
      first_(max_samples, hidden_, std::max(3 * hidden_, model.config().ffn)),
      scratch_size_(model.kernels().attention_scratch(
          model.config().max_tokens, model.config().max_tokens, hidden_ / model.config().heads)),
      pooled_(allocate(max_samples * hidden_)),
      logits_(allocate(max_samples * model.config().classes)),
      pool_(std::make_unique<ThreadPool>(threads)) {
  scratch_ = allocate(pool_->threads() * scratch_size_);
}

Encoder::~Encoder() = default;

void Encoder::embed(std::span<const std::int32_t> ids, std::span<const std::int32_t> types,
                    std::size_t begin) {
  float* x = rows() + begin * hidden_;
  model_.kernels().embed(ids.data(), types.data(), model_.word_embeddings().data(),
                         model_.position_embeddings().data(), model_.type_embeddings().data(), x,
                         ids.size(), hidden_);
  add_and_norm(x, nullptr, ids.size(), model_.embedding_norm());
}

void Encoder::run_layer(const EncoderLayer& layer, std::span<const SampleRows> samples) {
  const std::size_t rows = samples.back().begin + samples.back().count;
  multiply(layer.qkv, all_.x.get(), all_.wide.get(), rows, 0, layer.qkv.out);
  attend(samples, false);
  finish(layer, all_, rows);
}

void Encoder::run_first(const EncoderLayer& layer, std::span<const SampleRows> samples) {
  const std::size_t rows = samples.back().begin + samples.back().count;
  take_first(samples);
  multiply(layer.qkv, first_.x.get(), first_.wide.get(), samples.size(), 0, query_columns(true));
  multiply(layer.qkv, all_.x.get(), all_.wide.get(), rows, query_columns(false), layer.qkv.out);
  attend(samples, true);
  finish(layer, first_, samples.size());
}

void Encoder::run_rest(const EncoderLayer& layer, std::span<const SampleRows> samples) {
  const std::size_t rows = samples.back().begin + samples.back().count;
  multiply(layer.qkv, all_.x.get(), all_.wide.get(), rows, 0, query_columns(false));
  attend(samples, false);
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
  multiply(exit.pooler, x, pooled_.get(), count, 0, hidden_);
  // Row by row, here and in gelu(): a row's result must not depend on the rows beside it.
  for (std::size_t i = 0; i < count; ++i) {
    model_.kernels().tanh(pooled_.get() + i * hidden_, hidden_);
  }
  multiply(exit.classifier, pooled_.get(), logits_.get(), count, 0, classes);
  for (std::size_t i = 0; i < count * classes; ++i) logits_[i] /= exit.temperature;
  model_.kernels().softmax(logits_.get(), classes, count, classes);
  return {logits_.get(), count * classes};
}

void Encoder::attend(std::span<const SampleRows> samples, bool first_only) {
  const std::size_t heads = model_.config().heads, stride = 3 * hidden_;
  pool_->share(samples.size() * heads, [&](std::size_t worker, std::size_t begin, std::size_t end) {
    for (std::size_t item = begin; item < end; ++item) {
      const std::size_t number = item / heads, head = item % heads;
      const SampleRows& sample = samples[number];
      const float* all = all_.wide.get() + sample.begin * stride;
      const float* q = first_only ? first_.wide.get() + number * stride : all;
      float* out = first_only ? first_.context.get() + number * hidden_
                              : all_.context.get() + sample.begin * hidden_;
      model_.kernels().attention(q, stride, all + hidden_, stride, all + 2 * hidden_, stride, out,
                                 hidden_, first_only ? 1 : sample.count, sample.count,
                                 hidden_ / heads, head, head + 1,
                                 scratch_.get() + worker * scratch_size_);
    }
  });
}

void Encoder::finish(const EncoderLayer& layer, Buffers& part, std::size_t rows) {
  multiply(layer.attention_output, part.context.get(), part.sum.get(), rows, 0, hidden_);
  add_and_norm(part.x.get(), part.sum.get(), rows, layer.attention_norm);
  multiply(layer.up, part.x.get(), part.wide.get(), rows, 0, layer.up.out);
  gelu(part.wide.get(), rows, layer.up.out);
  multiply(layer.down, part.wide.get(), part.sum.get(), rows, 0, hidden_);
  add_and_norm(part.x.get(), part.sum.get(), rows, layer.output_norm);
}

void Encoder::add_and_norm(float* x, const float* addend, std::size_t rows, const LayerNorm& norm) {
  pool_->share(rows, [&](std::size_t, std::size_t begin, std::size_t end) {
    float* to = x + begin * hidden_;
    model_.kernels().layer_norm(to, hidden_, addend == nullptr ? nullptr : addend + begin * hidden_,
                                hidden_, norm.gamma.data(), norm.beta.data(),
                                model_.config().layer_norm_epsilon, to, hidden_, end - begin,
                                hidden_);
  });
}

void Encoder::gelu(float* x, std::size_t rows, std::size_t cols) {
  pool_->share(rows, [&](std::size_t, std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) model_.kernels().gelu(x + r * cols, cols);
  });
}

void Encoder::multiply(const Linear& linear, const float* a, float* c, std::size_t rows,
                       std::size_t begin, std::size_t end) {
  const kernels::Matmul& kernel = model_.kernels().f32;
  const std::size_t panels = (end - begin + kernel.columns - 1) / kernel.columns;
  pool_->share(panels, [&](std::size_t, std::size_t first, std::size_t last) {
    kernel.multiply({.a = a,
                     .a_stride_bytes = linear.in * sizeof(float),
                     .packed = linear.packed.data(),
                     .bias = linear.bias.data(),
                     .c = c,
                     .c_stride = linear.out,
                     .m = rows,
                     .n = linear.out,
                     .k = linear.in,
                     .n_begin = begin + first * kernel.columns,
                     .n_end = std::min(begin + last * kernel.columns, end)});
  });
}

std::size_t Encoder::query_columns(bool round_up) const {
  const std::size_t columns = model_.kernels().f32.columns;
  return std::min((hidden_ + (round_up ? columns - 1 : 0)) / columns * columns, 3 * hidden_);
}

}  // namespace splitee::runtime

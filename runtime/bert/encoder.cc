#include "runtime/bert/encoder.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/thread_pool.h"
#include "runtime/weights/products.h"

namespace splitee::runtime {

Encoder::Buffers::Buffers(const BertNetwork& model, std::size_t rows) {
  const std::size_t hidden = model.config().hidden;
  x = allocate_aligned<float>(rows * hidden);
  context = allocate_aligned<float>(rows * hidden);
  sum = allocate_aligned<float>(rows * hidden);
  wide = allocate_aligned<float>(rows * std::max(3 * hidden, model.config().ffn));
  prepared = allocate_aligned<std::byte>(
      rows * prepared_bytes(model.kernels(), std::max(hidden, model.config().ffn)));
}

Encoder::Encoder(const BertNetwork& model, std::size_t max_rows, std::size_t max_samples,
                 std::size_t threads)
    : model_(model),
      hidden_(model.config().hidden),
      all_(model, max_rows),
      first_(model, max_samples),
      row_numbers_(model.config().max_tokens),
      scratch_size_(model.kernels().attention_scratch(
          model.config().max_tokens, model.config().max_tokens, hidden_ / model.config().heads)),
      pooled_(allocate_aligned<float>(max_samples * hidden_)),
      logits_(allocate_aligned<float>(max_samples * model.config().classes)),
      pool_(std::make_unique<ThreadPool>(threads)) {
  scratch_ = allocate_aligned<float>(pool_->threads() * scratch_size_);
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

void Encoder::take_means(std::span<const SampleRows> samples) {
  float* to = first_.x.get();
  for (const SampleRows& sample : samples) {
    const float* from = rows() + sample.begin * hidden_;
    std::copy_n(from, hidden_, to);
    for (std::size_t row = 1; row < sample.count; ++row) {
      from += hidden_;
      for (std::size_t i = 0; i < hidden_; ++i) to[i] += from[i];
    }
    for (std::size_t i = 0; i < hidden_; ++i) to[i] /= static_cast<float>(sample.count);
    to += hidden_;
  }
}

std::span<const float> Encoder::evaluate_exit(const ExitHead& exit, const float* x,
                                              std::size_t count) {
  const std::size_t classes = model_.config().classes;
  if (exit.pooler.kernel != nullptr) {
    pool(exit.pooler, x, count);
    x = pooled_.get();
  }
  multiply(exit.classifier, prepare(exit.classifier, x, count, first_), logits_.get(), count, 0,
           classes);
  const std::span<float> answers(logits_.get(), count * classes);
  for (float& answer : answers) answer /= exit.temperature;
  if (model_.config().output == Output::kClasses) {
    model_.kernels().softmax(answers.data(), classes, count, classes);
  } else if (model_.config().output == Output::kLabels) {
    for (float& answer : answers) answer = 1.0f / (1.0f + std::exp(-answer));
  }
  return answers;
}

void Encoder::pool(const Linear& pooler, const float* x, std::size_t count) {
  using kernels::Epilogue;
  const PoolerActivation activation = model_.config().pooler_activation;
  const Epilogue epilogue = activation == PoolerActivation::kRelu   ? Epilogue::kRelu
                            : activation == PoolerActivation::kGelu ? Epilogue::kGelu
                                                                    : Epilogue::kNone;
  multiply(pooler, prepare(pooler, x, count, first_), pooled_.get(), count, 0, hidden_, epilogue);
  if (activation != PoolerActivation::kTanh) return;
  // Row by row: a row's result must not depend on the rows beside it.
  for (std::size_t i = 0; i < count; ++i) {
    model_.kernels().tanh(pooled_.get() + i * hidden_, hidden_);
  }
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
                   attention({.q = q,
                              .q_stride = stride,
                              .k = all + hidden_,
                              .k_stride = stride,
                              .v = all + 2 * hidden_,
                              .v_stride = stride,
                              .out = out,
                              .out_stride = hidden_,
                              .q_rows = first_only ? 1 : sample.count,
                              .kv_rows = sample.count,
                              .head_size = hidden_ / heads,
                              .head_begin = head,
                              .head_end = head + 1,
                              .scratch = scratch_.get() + worker * scratch_size_});
                 }
               });
}

void Encoder::finish(const EncoderLayer& layer, Buffers& part, std::size_t rows) {
  multiply(layer.attention_output, prepare(layer.attention_output, part.context.get(), rows, part),
           part.sum.get(), rows, 0, hidden_);
  add_and_norm(part, rows, layer.attention_norm, &layer.up);
  const void* x = layer.up.kernel->prepare == nullptr ? static_cast<const void*>(part.x.get())
                                                      : part.prepared.get();
  multiply(layer.up, x, part.wide.get(), rows, 0, layer.up.out, model_.config().activation);
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
  return runtime::prepare(linear, a, rows, part.prepared.get(), *pool_);
}

void Encoder::multiply(const Linear& linear, const void* a, float* c, std::size_t rows,
                       std::size_t begin, std::size_t end, kernels::Epilogue epilogue) {
  runtime::multiply(linear, a, c, rows, begin, end, *pool_, epilogue);
}

std::size_t Encoder::query_columns(const Linear& qkv, bool round_up) const {
  const std::size_t columns = qkv.kernel->columns;
  return std::min((hidden_ + (round_up ? columns - 1 : 0)) / columns * columns, qkv.out);
}

}  // namespace splitee::runtime

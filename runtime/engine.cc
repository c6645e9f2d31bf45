#include "runtime/engine.h"

#include <algorithm>
#include <span>

#include "runtime/dequantize.h"
#include "runtime/thread_pool.h"

namespace splitee::runtime {
namespace {

std::unique_ptr<float[]> allocate(std::size_t floats) {
  // Untouched pages of a workspace for the longest sample cost nothing.
  return std::make_unique_for_overwrite<float[]>(floats);
}

Status invalid(const std::string& message) {
  return {Code::kInvalidArgument, message};
}

Status check_table_indices(std::span<const std::int32_t> indices, std::size_t entries,
                           const char* what) {
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] < 0 || static_cast<std::size_t>(indices[i]) >= entries) {
      return invalid(std::string(what) + " " + std::to_string(indices[i]) + " at token " +
                     std::to_string(i) + " is not within 0 .. " + std::to_string(entries - 1));
    }
  }
  return {};
}

}  // namespace

// All (tokens, cols) row major, for the model's longest sample.
struct Engine::Workspace {
  Workspace(const Model& model, std::size_t threads) {
    const ModelConfig& config = model.config();
    const std::size_t rows = config.max_tokens;
    x = allocate(rows * config.hidden);
    context = allocate(rows * config.hidden);
    sum = allocate(rows * config.hidden);
    wide = allocate(rows * std::max(3 * config.hidden, config.ffn));
    scratch_size = model.kernels().attention_scratch(rows, rows, config.hidden / config.heads);
    scratch = allocate(threads * scratch_size);
    pooled = allocate(config.hidden);
    probabilities = allocate(config.classes);
  }

  std::unique_ptr<float[]> x;        // (tokens, hidden): output of the layer reached
  std::unique_ptr<float[]> context;  // (tokens, hidden): attention's output
  std::unique_ptr<float[]> sum;      // (tokens, hidden): a block's output, before the residual
  std::unique_ptr<float[]> wide;     // (tokens, 3 * hidden) queries, keys, values; (tokens, ffn)
  std::size_t scratch_size = 0;
  std::unique_ptr<float[]> scratch;        // one part of scratch_size per thread
  std::unique_ptr<float[]> pooled;         // (hidden)
  std::unique_ptr<float[]> probabilities;  // (classes)
};

Engine::Engine(std::shared_ptr<const Model> model, std::size_t threads) : model_(std::move(model)) {
  if (threads > 1) pool_ = std::make_unique<ThreadPool>(threads);
  work_ = std::make_unique<Workspace>(*model_, pool_ ? pool_->threads() : 1);
}

Engine::~Engine() = default;

Status Engine::check_tokens(std::size_t tokens) const {
  const std::size_t most = model_->config().max_tokens;
  if (tokens >= 1 && tokens <= most) return {};
  return invalid(std::to_string(tokens) + " tokens; the model takes 1 to " + std::to_string(most));
}

Status Engine::begin(std::span<const std::int32_t> ids, std::span<const std::int32_t> types) {
  const ModelConfig& config = model_->config();
  if (Status s = check_tokens(ids.size()); !s.ok()) return s;
  if (types.size() != ids.size()) {
    return invalid(std::to_string(ids.size()) + " token ids with " + std::to_string(types.size()) +
                   " token types");
  }
  if (Status s = check_table_indices(ids, config.vocab, "token id"); !s.ok()) return s;
  if (Status s = check_table_indices(types, config.token_types, "token type"); !s.ok()) return s;
  tokens_ = ids.size();
  layer_ = 0;
  model_->kernels().embed(ids.data(), types.data(), model_->word_embeddings().data(),
                          model_->position_embeddings().data(), model_->type_embeddings().data(),
                          work_->x.get(), tokens_, config.hidden);
  add_and_norm(nullptr, model_->embedding_norm());
  return {};
}

Status Engine::resume(std::size_t layer, std::size_t tokens, std::span<const float> activation) {
  const ModelConfig& config = model_->config();
  if (layer > config.layers) {
    return invalid("layer " + std::to_string(layer) + " of a model with " +
                   std::to_string(config.layers));
  }
  if (Status s = check_tokens(tokens); !s.ok()) return s;
  if (activation.size() != tokens * config.hidden) {
    return invalid("an activation of " + std::to_string(activation.size()) + " values; " +
                   std::to_string(tokens) + " tokens of " + std::to_string(config.hidden) +
                   " are expected");
  }
  if (!all_finite(activation)) return invalid("the activation has a value that is not finite");
  // An activation that is this engine's own view needs no copy, and must not be one.
  if (activation.data() != work_->x.get()) {
    std::copy(activation.begin(), activation.end(), work_->x.get());
  }
  tokens_ = tokens;
  layer_ = layer;
  return {};
}

void Engine::run_to(std::size_t layer) {
  SPLITEE_CHECK(tokens_ > 0 && layer >= layer_ && layer <= model_->config().layers);
  while (layer_ < layer) run_layer(model_->layer(++layer_));
}

std::span<const float> Engine::evaluate_exit(std::size_t exit_index) {
  const ModelConfig& config = model_->config();
  SPLITEE_CHECK(tokens_ > 0 && exit_index < config.exit_layers.size());
  SPLITEE_CHECK(config.exit_layers[exit_index] == layer_);
  const ExitHead& exit = model_->exit(exit_index);
  float* pooled = work_->pooled.get();
  float* probabilities = work_->probabilities.get();
  matmul(exit.pooler, work_->x.get(), config.hidden, pooled, 1);
  model_->kernels().tanh(pooled, config.hidden);
  matmul(exit.classifier, pooled, config.hidden, probabilities, 1);
  for (std::size_t c = 0; c < config.classes; ++c) probabilities[c] /= exit.temperature;
  model_->kernels().softmax(probabilities, config.classes, 1, config.classes);
  return {probabilities, config.classes};
}

std::span<const float> Engine::activation() const {
  SPLITEE_CHECK(tokens_ > 0);
  return {work_->x.get(), tokens_ * model_->config().hidden};
}

void Engine::run_layer(const EncoderLayer& layer) {
  const std::size_t hidden = model_->config().hidden, ffn = model_->config().ffn;
  Workspace& work = *work_;
  matmul(layer.qkv, work.x.get(), hidden, work.wide.get(), tokens_);
  attend();
  matmul(layer.attention_output, work.context.get(), hidden, work.sum.get(), tokens_);
  add_and_norm(work.sum.get(), layer.attention_norm);
  matmul(layer.up, work.x.get(), hidden, work.wide.get(), tokens_);
  // Row by row, so that a row's result does not depend on how rows are shared out.
  for_parts(tokens_, [&](std::size_t, std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      model_->kernels().gelu(work.wide.get() + r * ffn, ffn);
    }
  });
  matmul(layer.down, work.wide.get(), ffn, work.sum.get(), tokens_);
  add_and_norm(work.sum.get(), layer.output_norm);
}

// context = attention of the queries, keys and values in `wide`.
void Engine::attend() {
  const ModelConfig& config = model_->config();
  const std::size_t stride = 3 * config.hidden;
  const float* q = work_->wide.get();
  for_parts(config.heads, [&](std::size_t part, std::size_t begin, std::size_t end) {
    model_->kernels().attention(q, stride, q + config.hidden, stride, q + 2 * config.hidden, stride,
                                work_->context.get(), config.hidden, tokens_, tokens_,
                                config.hidden / config.heads, begin, end,
                                work_->scratch.get() + part * work_->scratch_size);
  });
}

// x = norm(x + addend); addend (tokens, hidden) or null.
void Engine::add_and_norm(const float* addend, const LayerNorm& norm) {
  const std::size_t hidden = model_->config().hidden;
  for_parts(tokens_, [&](std::size_t, std::size_t begin, std::size_t end) {
    float* x = work_->x.get() + begin * hidden;
    model_->kernels().layer_norm(
        x, hidden, addend == nullptr ? nullptr : addend + begin * hidden, hidden, norm.gamma.data(),
        norm.beta.data(), model_->config().layer_norm_epsilon, x, hidden, end - begin, hidden);
  });
}

// c (rows, linear.out) = a (rows, linear.in) W^T + bias, shared by panels of columns.
void Engine::matmul(const Linear& linear, const float* a, std::size_t a_stride, float* c,
                    std::size_t rows) {
  const kernels::Matmul& f32 = model_->kernels().f32;
  const std::size_t columns = f32.columns;
  for_parts((linear.out + columns - 1) / columns,
            [&](std::size_t, std::size_t begin, std::size_t end) {
              f32.multiply({.a = a,
                            .a_stride_bytes = a_stride * sizeof(float),
                            .packed = linear.packed.data(),
                            .bias = linear.bias.data(),
                            .c = c,
                            .c_stride = linear.out,
                            .m = rows,
                            .n = linear.out,
                            .k = linear.in,
                            .n_begin = begin * columns,
                            .n_end = std::min(end * columns, linear.out)});
            });
}

// Calls body(part, begin, end) for an even share of 0 .. count - 1 per thread.
template <class Body>
void Engine::for_parts(std::size_t count, const Body& body) {
  if (!pool_) return body(std::size_t{0}, std::size_t{0}, count);
  const std::size_t parts = pool_->threads();
  pool_->run([&](std::size_t part) {
    const std::size_t begin = count * part / parts, end = count * (part + 1) / parts;
    if (begin < end) body(part, begin, end);
  });
}

}  // namespace splitee::runtime

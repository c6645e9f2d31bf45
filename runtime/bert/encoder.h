// The arithmetic of the encoder over the rows of one or several samples that lie one after the
// other, and the buffers it needs: what Engine and BatchEngine share. Internal to runtime.
// Thread rule: one thread; it has helper threads of its own for single products.
// Ownership: buffers are allocated once, and pages that no sample reached cost nothing. Borrows
// the BertNetwork.
// Determinism: a row's result depends neither on the rows beside it nor on the threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/bert/model.h"
#include "runtime/weights/products.h"

namespace splitee::runtime {

class ThreadPool;

// The rows of one sample.
struct SampleRows {
  std::size_t begin = 0, count = 0;
};

class Encoder {
 public:
  Encoder(const BertNetwork& model, std::size_t max_rows, std::size_t max_samples,
          std::size_t threads);
  ~Encoder();

  // (rows, hidden): the input of a layer; after run_layer() or run_rest() its output.
  float* rows() { return all_.x.get(); }
  const float* rows() const { return all_.x.get(); }
  // (samples, hidden): each sample's first row, after run_first() or take_first(); or its mean,
  // after take_means().
  const float* first_rows() const { return first_.x.get(); }

  // The embedding output (layer 0) of one sample, to rows() from `begin` on. Ids and types are
  // within the model's tables. Fails where the word embeddings cannot be read any more.
  Status embed(std::span<const std::int32_t> ids, std::span<const std::int32_t> types,
               std::size_t begin);

  // rows() through a layer. Samples lie one after the other, from row 0 on.
  void run_layer(const EncoderLayer& layer, std::span<const SampleRows> samples);

  // What an exit behind the layer reads: the samples' first rows through the layer, to
  // first_rows(). Keys and values are computed for all rows, everything else for the first ones;
  // rows() stays the input.
  void run_first(const EncoderLayer& layer, std::span<const SampleRows> samples);

  // After run_first() with the same arguments: rows() through the layer; keys and values are there.
  void run_rest(const EncoderLayer& layer, std::span<const SampleRows> samples);

  // Copies the samples' first rows from rows() to first_rows(), from place `first` on.
  void take_first(std::span<const SampleRows> samples, std::size_t first = 0);

  // The means of the samples' rows in rows(), to first_rows().
  void take_means(std::span<const SampleRows> samples);

  // Answers (count, classes) of an exit that reads x (count, hidden): what ModelConfig::output
  // says. Valid until the next call.
  std::span<const float> evaluate_exit(const ExitHead& exit, const float* x, std::size_t count);

 private:
  template <class T>
  using Buffer = AlignedBuffer<T>;

  // Buffers for some rows, (rows, cols) row major.
  struct Buffers {
    Buffers(const BertNetwork& model, std::size_t rows);
    Buffer<float> x;             // hidden: the residual stream
    Buffer<float> context;       // hidden: attention's output
    Buffer<float> sum;           // hidden: a block's output, before the residual
    Buffer<float> wide;          // 3 * hidden: queries, keys, values; then ffn
    Buffer<std::byte> prepared;  // rows of one of these as a product's kernel wants them
  };

  // Attention of the queries in `wide` with the keys and values of all rows: of each sample all
  // rows, or the first one. In float32 where the product that made them was.
  void attend(const Linear& qkv, std::span<const SampleRows> samples, bool first_only);
  // pooled_ = activation(x W^T + b).
  void pool(const Linear& pooler, const float* x, std::size_t count);
  // The layer behind the attention, for `rows` rows of `part`.
  void finish(const EncoderLayer& layer, Buffers& part, std::size_t rows);
  // part.x = norm(part.x + part.sum), and prepared for `next` where that is given.
  void add_and_norm(Buffers& part, std::size_t rows, const LayerNorm& norm, const Linear* next);
  // a (rows, linear.in) as the linear's kernel wants it, in `part` or as it is.
  const void* prepare(const Linear& linear, const float* a, std::size_t rows, Buffers& part);
  // Columns [begin, end) of c (rows, linear.out) = a W^T + bias, `a` from prepare(). `begin` is a
  // multiple of the kernel's columns.
  void multiply(const Linear& linear, const void* a, float* c, std::size_t rows, std::size_t begin,
                std::size_t end, kernels::Epilogue epilogue = kernels::Epilogue::kNone);
  // Where the columns of the keys and values start, rounded down or up to whole panels.
  std::size_t query_columns(const Linear& qkv, bool round_up) const;

  const BertNetwork& model_;
  const std::size_t hidden_;
  Buffers all_;
  Buffers first_;
  std::vector<std::int32_t> row_numbers_;  // 0, 1, ...: ids of gathered rows
  std::size_t scratch_size_;
  Buffer<float> scratch_;  // of attention: scratch_size_ per thread
  Buffer<float> pooled_;   // (samples, hidden)
  Buffer<float> logits_;   // (samples, classes)
  std::unique_ptr<ThreadPool> pool_;
};

}  // namespace splitee::runtime

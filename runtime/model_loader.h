// Fills a Model from a file: everything at once but the word embeddings and the weights of layers
// and exits, for which it makes plans; and checks the whole file. Internal to Model.
// Thread rule: one thread. Errors: as Model::open().
#pragma once

#include <atomic>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/gguf.h"
#include "runtime/model.h"
#include "runtime/page_memory.h"
#include "runtime/weight_loader.h"
#include "runtime/word_table.h"

namespace splitee::runtime {

// What of a model is read later, and from where.
struct Model::Source {
  struct Part {
    PartPlan plan;
    std::size_t packed_offset = 0;  // in `packed`
    std::atomic<bool> there{false};
  };

  Source(std::shared_ptr<const ModelBytes> file, WordTable table, std::vector<Part> layer_parts,
         std::vector<Part> exit_parts)
      : bytes(std::move(file)),
        words(std::move(table)),
        layers(std::move(layer_parts)),
        exits(std::move(exit_parts)) {}

  std::shared_ptr<const ModelBytes> bytes;
  WordTable words;
  PageMemory packed;  // the weights of all parts, each part's touched when it is read
  std::vector<Part> layers, exits;
  std::mutex mutex;  // of reading parts
};

class ModelLoader {
 public:
  static Result<std::shared_ptr<const Model>> load(ModelBytes bytes,
                                                   const kernels::Kernels& kernels,
                                                   const ModelOptions& options);

 private:
  ModelLoader(ModelBytes bytes, Gguf file, Model& model);
  // What follows, at the same time where the machine has the threads.
  Status load_all(const ModelOptions& options);
  Status load_tokenizer();
  // Loads all but the tokenizer, and then looks at what of the file has not been read.
  Status load_and_check(const ModelOptions& options);
  Status load_weights(const ModelOptions& options);
  Result<WordTable> load_embeddings();
  Status place_weights(const ModelOptions& options);
  Status plan_layer(std::size_t index, PartPlan& plan);
  Status plan_exit(std::size_t index, PartPlan& plan);
  Status check_all_used() const;

  // The tensor `name`, of exactly this shape.
  Result<TensorPlace> take(const std::string& name, std::initializer_list<std::size_t> shape);
  // The same; not I8.
  Result<TensorPlace> take_vector(const std::string& name, std::size_t size);
  Status plan_vector(const std::string& name, std::size_t size, std::size_t first,
                     std::vector<float>& to, PartPlan& plan);
  Status plan_norm(const std::string& name, LayerNorm& norm, PartPlan& plan);
  // NAME.weight (linear.out, in) and NAME.bias; or, of several names, equal shares of the rows.
  Status plan_linear(std::initializer_list<std::string> names, std::size_t out, std::size_t in,
                     Linear& linear, PartPlan& plan);
  // The scales of an I8 matrix; none for other types.
  Status load_scales(const TensorPlace& matrix, std::vector<float>& scales);
  Status load_table(const std::string& name, std::size_t rows, std::vector<float>& table);

  std::shared_ptr<ModelBytes> bytes_;
  Gguf file_;
  Model& model_;
  std::vector<bool> used_;  // per tensor of the file
};

}  // namespace splitee::runtime

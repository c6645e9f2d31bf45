// Fills a BertNetwork from a file: everything at once but the word embeddings and the weights of
// layers and exits, for which it makes plans; and checks the whole file. Internal to BertNetwork.
// Thread rule: one thread. Errors: as BertNetwork::open().
#pragma once

#include <memory>

#include "runtime/bert/model.h"
#include "runtime/bert/word_table.h"
#include "runtime/file/gguf.h"
#include "runtime/weights/part_planner.h"
#include "runtime/weights/weight_parts.h"

namespace splitee::runtime {

// What of a model is read later, and from where.
struct BertNetwork::Source {
  std::shared_ptr<const ModelBytes> bytes;
  WordTable words;
  std::unique_ptr<WeightParts> parts;  // the layers, then the exits
};

class ModelLoader {
 public:
  static Result<std::shared_ptr<const BertNetwork>> load(ModelFile file,
                                                         const kernels::Kernels& kernels,
                                                         const ModelOptions& options);

 private:
  ModelLoader(ModelBytes bytes, Gguf file, BertNetwork& model);
  // What follows, at the same time where the machine has the threads.
  Status load_all(const ModelOptions& options);
  Status load_tokenizer();
  // Loads all but the tokenizer, and looks at what of the file has not been read.
  Status load_and_check(const ModelOptions& options);
  Status load_weights(const ModelOptions& options);
  Result<WordTable> load_embeddings();
  Status plan_layer(std::size_t index, PartPlan& plan);
  Status plan_exit(std::size_t index, PartPlan& plan);
  void describe();

  std::shared_ptr<ModelBytes> bytes_;
  Gguf file_;
  BertNetwork& model_;
  PartPlanner planner_;
};

}  // namespace splitee::runtime

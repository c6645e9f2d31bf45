// ONNX Runtime behind its C interface, opened at run time: nothing of it is needed to build.
// Thread rule: one thread. Errors: a message on standard error and exit status 1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace splitee::bench {

// The functions that are used, as (return type, name, position in the table OrtApi, arguments).
// The table only ever grows at its end, so that the positions hold for every newer library.
struct OrtTable;

struct OrtOptions {
  std::string library;  // path of libonnxruntime.so.1
  std::string model;    // path of the .onnx file
  std::size_t threads = 1;
  std::string save_optimized;  // where the optimised graph is written; empty: nowhere
  std::string config;          // "key=value" of a session option; empty: none
};

// A session whose inputs are "ids" and "mask" (int64, (1, tokens)) and whose outputs are
// "logits0", "logits1", ... (float, (1, classes)).
class OrtModel {
 public:
  explicit OrtModel(const OrtOptions& options);
  ~OrtModel();
  OrtModel(const OrtModel&) = delete;
  OrtModel& operator=(const OrtModel&) = delete;

  std::size_t exits() const { return output_names_.size(); }

  // One forward pass through all layers and exits.
  void run(std::span<const std::int32_t> ids);
  // Logits of the last run, valid until the next.
  std::span<const float> logits(std::size_t exit, std::size_t classes) const;

 private:
  void set_input(std::span<const std::int32_t> ids);
  void drop_inputs();
  void drop_outputs();

  std::unique_ptr<OrtTable> api_;
  void* environment_ = nullptr;
  void* memory_ = nullptr;
  void* session_ = nullptr;
  std::vector<std::int64_t> ids_, mask_;
  std::vector<void*> inputs_, outputs_;
  std::vector<std::string> output_names_;
};

}  // namespace splitee::bench

#include "bench/peers/ort.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <dlfcn.h>

namespace splitee::bench {
namespace {

constexpr std::uint32_t kApiVersion = 20;
constexpr int kLogErrors = 3;
constexpr int kAllOptimizations = 99;
constexpr int kArenaAllocator = 1;
constexpr int kDefaultMemory = 0;
constexpr int kInt64 = 7;

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "onnxruntime: %s\n", message.c_str());
  std::exit(1);
}

struct ApiBase {
  const void* const* (*table)(std::uint32_t version);
  const char* (*version)();
};

}  // namespace

// The positions are those of struct OrtApi in onnxruntime_c_api.h. All handles are opaque; a
// status is null on success.
struct OrtTable {
  explicit OrtTable(const void* const* entries) : entries_(entries) {}

  template <std::size_t kPosition, class Result = void*, class... Arguments>
  Result call(Arguments... arguments) const {
    Result (*function)(Arguments...) = nullptr;
    std::memcpy(&function, &entries_[kPosition], sizeof function);
    return function(arguments...);
  }
  // For the functions that return a status.
  template <std::size_t kPosition, class... Arguments>
  void checked(const char* name, Arguments... arguments) const {
    void* status = call<kPosition>(arguments...);
    if (status == nullptr) return;
    fail(std::string(name) + ": " + call<2, const char*>(static_cast<const void*>(status)));
  }

  void create_environment(void** out) const { checked<3>("CreateEnv", kLogErrors, "bench", out); }
  void create_session(void* environment, const char* path, void* options, void** out) const {
    checked<7>(path, environment, path, options, out);
  }
  void run(void* session, const char* const* input_names, void* const* inputs,
           const char* const* output_names, std::size_t outputs_size, void** outputs) const {
    checked<9>("Run", session, nullptr, input_names, inputs, std::size_t{2}, output_names,
               outputs_size, outputs);
  }
  void create_options(void** out) const { checked<10>("CreateSessionOptions", out); }
  void save_optimized(void* options, const char* path) const {
    checked<11>("SetOptimizedModelFilePath", options, path);
  }
  void optimize_all(void* options) const {
    checked<23>("SetSessionGraphOptimizationLevel", options, kAllOptimizations);
  }
  void set_threads(void* options, std::size_t threads) const {
    checked<24>("SetIntraOpNumThreads", options, static_cast<int>(threads));
    checked<25>("SetInterOpNumThreads", options, 1);
  }
  void output_count(void* session, std::size_t* out) const {
    checked<31>("SessionGetOutputCount", session, out);
  }
  void create_tensor(void* memory, std::vector<std::int64_t>& data, const std::int64_t (&shape)[2],
                     void** out) const {
    checked<49>("CreateTensorWithDataAsOrtValue", memory, static_cast<void*>(data.data()),
                data.size() * sizeof(std::int64_t), &shape[0], std::size_t{2}, kInt64, out);
  }
  void tensor_data(void* value, void** out) const {
    checked<51>("GetTensorMutableData", value, out);
  }
  void create_memory(void** out) const {
    checked<69>("CreateCpuMemoryInfo", kArenaAllocator, kDefaultMemory, out);
  }
  void add_config(void* options, const char* key, const char* value) const {
    checked<130>("AddSessionConfigEntry", options, key, value);
  }
  void release_environment(void* handle) const { call<92, void>(handle); }
  void release_memory(void* handle) const { call<94, void>(handle); }
  void release_session(void* handle) const { call<95, void>(handle); }
  void release_value(void* handle) const { call<96, void>(handle); }
  void release_options(void* handle) const { call<100, void>(handle); }

 private:
  const void* const* entries_;
};

namespace {

OrtTable open_library(const std::string& path) {
  // Stays open: the library's threads and statics outlive any one session.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) fail(dlerror());
  const ApiBase* (*base)() = nullptr;
  void* symbol = dlsym(library, "OrtGetApiBase");
  std::memcpy(&base, &symbol, sizeof base);
  if (base == nullptr) fail(path + ": no OrtGetApiBase");
  const void* const* table = base()->table(kApiVersion);
  if (table == nullptr) fail(path + ": older than version 1.20");
  return OrtTable(table);
}

}  // namespace

OrtModel::OrtModel(const OrtOptions& options)
    : api_(std::make_unique<OrtTable>(open_library(options.library))) {
  api_->create_environment(&environment_);
  api_->create_memory(&memory_);
  void* session_options = nullptr;
  api_->create_options(&session_options);
  api_->set_threads(session_options, options.threads);
  api_->optimize_all(session_options);
  if (!options.save_optimized.empty()) {
    api_->save_optimized(session_options, options.save_optimized.c_str());
  }
  if (const std::size_t equals = options.config.find('='); equals != std::string::npos) {
    api_->add_config(session_options, options.config.substr(0, equals).c_str(),
                     options.config.substr(equals + 1).c_str());
  }
  api_->create_session(environment_, options.model.c_str(), session_options, &session_);
  api_->release_options(session_options);
  std::size_t outputs = 0;
  api_->output_count(session_, &outputs);
  for (std::size_t i = 0; i < outputs; ++i) output_names_.push_back("logits" + std::to_string(i));
  inputs_.assign(2, nullptr);
  outputs_.assign(outputs, nullptr);
}

OrtModel::~OrtModel() {
  drop_outputs();
  drop_inputs();
  api_->release_session(session_);
  api_->release_memory(memory_);
  api_->release_environment(environment_);
}

void OrtModel::drop_inputs() {
  for (void*& value : inputs_) {
    if (value != nullptr) api_->release_value(value);
    value = nullptr;
  }
}

void OrtModel::drop_outputs() {
  for (void*& value : outputs_) {
    if (value != nullptr) api_->release_value(value);
    value = nullptr;
  }
}

void OrtModel::set_input(std::span<const std::int32_t> ids) {
  drop_inputs();
  ids_.assign(ids.begin(), ids.end());
  mask_.assign(ids.size(), 1);
  const std::int64_t shape[2] = {1, static_cast<std::int64_t>(ids.size())};
  api_->create_tensor(memory_, ids_, shape, &inputs_[0]);
  api_->create_tensor(memory_, mask_, shape, &inputs_[1]);
}

void OrtModel::run(std::span<const std::int32_t> ids) {
  set_input(ids);
  drop_outputs();
  const char* const input_names[] = {"ids", "mask"};
  std::vector<const char*> names;
  for (const std::string& name : output_names_) names.push_back(name.c_str());
  api_->run(session_, input_names, inputs_.data(), names.data(), names.size(), outputs_.data());
}

std::span<const float> OrtModel::logits(std::size_t exit, std::size_t classes) const {
  void* data = nullptr;
  api_->tensor_data(outputs_[exit], &data);
  return {static_cast<const float*>(data), classes};
}

}  // namespace splitee::bench

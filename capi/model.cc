// Models, inputs and engines.
#include <charconv>
#include <cmath>

#include "capi/handles.h"
#include "tools/common/flags.h"

namespace splitee::capi {
namespace {

using runtime::Network;
using runtime::NetworkInfo;

Result<std::shared_ptr<const Network>> open(const char* path, const char* const* options) {
  tools::ModelFlags flags;
  flags.path = path;
  std::string preload = "1";
  CLI::App app("", "options");
  app.set_help_flag();
  app.add_option("--target", flags.target);
  app.add_option("--preload", preload)
      ->check(CLI::IsMember({"all"}) | tools::number_within(0, 1e6));
  app.add_flag("--check-model", flags.check_whole);
  Status status = tools::parse_words(app, words_of(options));
  if (!status.ok()) return status;
  runtime::ModelOptions model{.preload = runtime::kAllLayers};
  double layers = 0;
  if (preload != "all" && CLI::detail::lexical_cast(preload, layers)) {
    model.preload = static_cast<std::size_t>(layers);
  }
  return tools::open_model(flags, model);
}

std::vector<const char*> pointers(const std::vector<std::string>& texts) {
  std::vector<const char*> result;
  for (const std::string& text : texts) result.push_back(text.c_str());
  return result;
}

std::size_t most_payload_bytes(const NetworkInfo& info) {
  std::size_t most = info.bytes_of_input(info.max_length);
  for (std::size_t layer = 0; layer <= info.layers(); ++layer) {
    most = std::max(most, info.shape(layer, info.max_length).size() * sizeof(float));
  }
  return most;
}

// `bytes` at `from`, and what they are.
int fill(const void* from, splitee_payload filled, splitee_payload* payload) {
  splitee_payload given;
  if (Status status = take(payload, given); !status.ok()) return fail(status);
  const int result = copy_out(from, filled.bytes, given.data, given.capacity, &payload->bytes);
  if (result != SPLITEE_OK) return result;
  filled.data = given.data;
  filled.capacity = given.capacity;
  return fail(give(filled, payload));
}

Status begin(splitee_engine& handle, const splitee_payload& payload) {
  const NetworkInfo& info = handle.network->info();
  if (payload.data == nullptr) return invalid("data is NULL");
  if (payload.length == 0 || payload.length > info.max_length) return invalid("length");
  handle.begun = false;
  handle.length = payload.length;
  Status status;
  if (payload.layer == 0 && payload.rows == 0) {
    status = handle.engine->begin(
        {payload.length, {static_cast<const std::byte*>(payload.data), payload.bytes}});
  } else {
    if (payload.layer > info.layers()) return invalid("the network has no such layer");
    const runtime::Shape shape = info.shape(payload.layer, payload.length);
    const bool fits = shape == runtime::Shape{payload.rows, payload.cols} &&
                      payload.bytes == shape.size() * sizeof(float);
    if (!fits) return invalid("rows, cols and bytes do not fit the layer and the length");
    status = handle.engine->resume(payload.layer, payload.rows,
                                   {static_cast<const float*>(payload.data), shape.size()});
  }
  handle.begun = status.ok();
  return status;
}

Status run(splitee_engine& handle, std::size_t exit, float* probabilities, std::size_t count) {
  const NetworkInfo& info = handle.network->info();
  if (!handle.begun) return invalid("no sample was begun");
  if (exit >= info.exits()) return invalid("the network has no such exit");
  if (count < info.classes()) return invalid("count is less than the classes");
  const std::size_t layer = info.exit_layers[exit];
  if (layer < handle.engine->layer()) return invalid("the sample is beyond this exit");
  if (Status status = handle.engine->run_to(layer); !status.ok()) return status;
  return copy_probabilities(handle.engine->evaluate_exit(exit), probabilities, count);
}

}  // namespace
}  // namespace splitee::capi

using namespace splitee::capi;
using splitee::Status;

int splitee_model_open(const char* path, const char* const* options, splitee_model** model) {
  return guarded([&]() -> Status {
    if (path == nullptr || model == nullptr) return invalid("path or model is NULL");
    auto network = open(path, options);
    if (!network.ok()) return network.status();
    auto handle = std::make_unique<splitee_model>();
    handle->network = std::move(*network);
    handle->labels = pointers(handle->network->info().labels);
    handle->columns = pointers(handle->network->info().columns);
    *model = handle.release();
    return {};
  });
}

int splitee_model_info_get(const splitee_model* model, splitee_model_info* info) {
  return guarded([&]() -> Status {
    if (model == nullptr) return invalid("model is NULL");
    const NetworkInfo& from = model->network->info();
    splitee_model_info filled{};
    filled.hash = model->network->hash();
    filled.library = SPLITEE_VERSION;
    filled.architecture = from.architecture.c_str();
    filled.dtype = from.dtype.c_str();
    filled.target = model->network->kernels().target;
    filled.input = static_cast<int>(from.input);
    filled.output = static_cast<int>(from.output);
    filled.pairs = from.pairs && from.input == splitee::runtime::InputKind::kText ? 1 : 0;
    filled.layers = from.layers();
    filled.exits = from.exits();
    filled.classes = from.classes();
    filled.exit_layers = from.exit_layers.data();
    filled.labels = model->labels.data();
    filled.numbers = from.numbers;
    filled.columns = model->columns.empty() ? nullptr : model->columns.data();
    filled.max_length = from.max_length;
    filled.max_payload_bytes = most_payload_bytes(from);
    filled.alpha = from.alpha;
    return give(filled, info);
  });
}

int splitee_prepare(const splitee_model* model, const splitee_input* input,
                    splitee_payload* payload) {
  return guarded([&]() -> int {
    splitee_input given;
    if (model == nullptr) return fail(invalid("model is NULL"));
    if (Status status = take(input, given); !status.ok()) return fail(status);
    const auto bytes = input_of(model->network->info(), given);
    if (!bytes.ok()) return fail(bytes.status());
    const auto prepared = model->network->prepare(*bytes);
    if (!prepared.ok()) return fail(prepared.status());
    splitee_payload filled{};
    filled.bytes = prepared->bytes.size();
    filled.length = prepared->length;
    return fill(prepared->bytes.data(), filled, payload);
  });
}

int splitee_engine_create(const splitee_model* model, size_t threads, splitee_engine** engine) {
  return guarded([&]() -> Status {
    constexpr std::size_t kMostThreads = 256;
    if (model == nullptr || engine == nullptr) return invalid("model or engine is NULL");
    if (threads < 1 || threads > kMostThreads) return invalid("threads: 1 to 256");
    auto handle = std::make_unique<splitee_engine>();
    handle->network = model->network;
    handle->engine = model->network->make_engine(threads);
    *engine = handle.release();
    return {};
  });
}

int splitee_engine_begin(splitee_engine* engine, const splitee_payload* payload) {
  return guarded([&]() -> Status {
    splitee_payload given;
    if (engine == nullptr) return invalid("engine is NULL");
    if (Status status = take(payload, given); !status.ok()) return status;
    return begin(*engine, given);
  });
}

int splitee_engine_run(splitee_engine* engine, size_t exit, float* probabilities, size_t count) {
  return guarded([&]() -> Status {
    if (engine == nullptr) return invalid("engine is NULL");
    return run(*engine, exit, probabilities, count);
  });
}

int splitee_engine_activation(splitee_engine* engine, splitee_payload* payload) {
  return guarded([&]() -> int {
    if (engine == nullptr) return fail(invalid("engine is NULL"));
    if (!engine->begun) return fail(invalid("no sample was begun"));
    const std::span<const float> values = engine->engine->activation();
    splitee_payload filled{};
    filled.layer = engine->engine->layer();
    filled.length = engine->length;
    const auto shape = engine->network->info().shape(filled.layer, filled.length);
    filled.rows = shape.rows;
    filled.cols = shape.cols;
    filled.bytes = values.size_bytes();
    return fill(values.data(), filled, payload);
  });
}

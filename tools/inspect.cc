#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/gguf.h"
#include "runtime/hash.h"
#include "runtime/model_bytes.h"
#include "tools/commands.h"
#include "tools/console.h"
#include "tools/flags.h"

namespace splitee::tools {

namespace {

using nlohmann::ordered_json;
using runtime::Gguf;
using runtime::Result;

constexpr std::size_t kShownElements = 4;

std::string dump(const ordered_json& root) {
  return root.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

ordered_json model_json(const runtime::Model& model, std::size_t file_bytes) {
  const runtime::ModelConfig& config = model.config();
  ordered_json root;
  root["path"] = model.path();
  root["file_bytes"] = file_bytes;
  root["hash"] = runtime::hash_to_string(model.hash());
  root["layers"] = config.layers;
  root["exits"] = config.exit_layers;
  root["hidden"] = config.hidden;
  root["heads"] = config.heads;
  root["ffn"] = config.ffn;
  root["max_tokens"] = config.max_tokens;
  root["vocab"] = config.vocab;
  root["token_types"] = config.token_types;
  root["classes"] = config.classes;
  root["labels"] = config.labels;
  root["dtype"] = config.dtype;
  root["alpha"] = nullptr;
  if (config.alpha > 0) root["alpha"] = config.alpha;
  root["exit_alphas"] = nullptr;
  if (!config.exit_alphas.empty()) root["exit_alphas"] = config.exit_alphas;
  root["layer_norm_epsilon"] = config.layer_norm_epsilon;
  std::vector<float> temperatures;
  for (std::size_t i = 0; i < config.exit_layers.size(); ++i) {
    temperatures.push_back(model.temperature(i));
  }
  root["temperatures"] = temperatures;
  return root;
}

void add_contents(const Gguf& gguf, ordered_json& root) {
  std::size_t parameters = 0;
  ordered_json tensors = ordered_json::array();
  for (const runtime::GgufTensor& tensor : gguf.tensors()) {
    const std::span<const std::size_t> dims(tensor.dims.data(), tensor.rank);
    parameters += tensor.size_bytes / runtime::tensor_type_bytes(tensor.type);
    tensors.push_back({{"name", std::string(tensor.name)},
                       {"type", std::string(runtime::tensor_type_name(tensor.type))},
                       {"shape", std::vector<std::size_t>(dims.begin(), dims.end())},
                       {"bytes", tensor.size_bytes}});
  }
  root["parameters"] = parameters;
  for (const runtime::GgufEntry& entry : gguf.entries()) {
    root["metadata"][std::string(entry.key)] = runtime::value_text(entry, kShownElements);
  }
  root["tensors"] = std::move(tensors);
}

std::string shown(const ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

std::string to_text(const ordered_json& root) {
  std::string text;
  const auto out = std::back_inserter(text);
  for (const auto& [key, value] : root.items()) {
    if (key != "metadata" && key != "tensors")
      fmt::format_to(out, "{:<20} {}\n", key, shown(value));
  }
  text += "metadata\n";
  for (const auto& [key, value] : root["metadata"].items()) {
    fmt::format_to(out, "  {:<42} {}\n", key, shown(value));
  }
  text += "tensors\n";
  for (const ordered_json& tensor : root["tensors"]) {
    fmt::format_to(out, "  {:<42} {:<5} {:<16} {} bytes\n", shown(tensor["name"]),
                   shown(tensor["type"]), shown(tensor["shape"]),
                   tensor["bytes"].get<std::size_t>());
  }
  return text;
}

int inspect(const ModelFlags& flags, bool json) {
  Result<std::shared_ptr<const runtime::Model>> model = open_model(flags);
  if (!model.ok()) return fail("splitee inspect", model.status());
  if (auto s = (*model)->load_all(); !s.ok()) return fail("splitee inspect", not_usage(s));
  Result<runtime::ModelBytes> file = runtime::ModelBytes::open(flags.path);
  if (!file.ok()) return fail("splitee inspect", not_usage(file.status()));
  std::vector<std::byte> header;
  Result<Gguf> gguf = runtime::read_header(*file, header);
  if (!gguf.ok()) return fail("splitee inspect", gguf.status());
  ordered_json root = model_json(**model, file->size());
  add_contents(*gguf, root);
  return finish("splitee inspect", print_output(json ? dump(root) : to_text(root)));
}

}  // namespace

void add_inspect(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "inspect", "Checks a model file and prints its layers, exits, sizes, labels and contents.");
  struct Flags {
    ModelFlags model;
    bool json = false;
  };
  const auto flags = std::make_shared<Flags>();
  command->add_option("model", flags->model.path, "model file (GGUF)")
      ->type_name("MODEL")
      ->required();
  command->add_flag("--json", flags->json, "print JSON");
  command->callback([flags, &exit_code] { exit_code = inspect(flags->model, flags->json); });
}

}  // namespace splitee::tools

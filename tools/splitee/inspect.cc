#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "runtime/file/gguf.h"
#include "runtime/file/model_bytes.h"
#include "tools/common/console.h"
#include "tools/common/flags.h"
#include "tools/splitee/commands.h"

namespace splitee::tools {

namespace {

using nlohmann::ordered_json;
using runtime::Gguf;

constexpr std::size_t kShownElements = 4;

std::string dump(const ordered_json& root) {
  return root.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

ordered_json model_json(const runtime::Network& network, std::size_t file_bytes) {
  const runtime::NetworkInfo& info = network.info();
  ordered_json root;
  root["path"] = network.path();
  root["file_bytes"] = file_bytes;
  root["hash"] = hash_to_string(network.hash());
  root["layers"] = info.layers();
  root["exits"] = info.exit_layers;
  for (const auto& [name, size] : info.more_sizes) root[name] = size;
  root["classes"] = info.classes();
  root["labels"] = info.labels;
  root["dtype"] = info.dtype;
  root["alpha"] = nullptr;
  if (info.alpha > 0) root["alpha"] = info.alpha;
  root["exit_alphas"] = nullptr;
  if (!info.exit_alphas.empty()) root["exit_alphas"] = info.exit_alphas;
  for (const auto& [name, number] : info.more_numbers) root[name] = number;
  root["temperatures"] = info.temperatures;
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
  Result<std::shared_ptr<const runtime::Network>> network = open_model(flags);
  if (!network.ok()) return fail("splitee inspect", network.status());
  if (auto s = (*network)->load_all(); !s.ok()) return fail("splitee inspect", not_usage(s));
  Result<runtime::ModelBytes> file = runtime::ModelBytes::open(flags.path);
  if (!file.ok()) return fail("splitee inspect", not_usage(file.status()));
  std::vector<std::byte> header;
  Result<Gguf> gguf = runtime::read_header(*file, header);
  if (!gguf.ok()) return fail("splitee inspect", gguf.status());
  ordered_json root = model_json(**network, file->size());
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

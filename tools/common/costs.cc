#include "tools/common/costs.h"

#include <cmath>
#include <numeric>
#include <span>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/hash.h"
#include "tools/common/console.h"

namespace splitee::tools {

using nlohmann::json;

namespace {

constexpr std::size_t kMaxFileBytes = 1 << 20;
// Of a time, and of the mean of a layer with its exit: shares of it are numbers within 0 and 1.
constexpr double kMostMicroseconds = 1e12, kLeastMicroseconds = 1e-6;

Status bad(const std::string& path, const std::string& what) {
  return Status(Code::kCorrupt, path + ": not a cost file: " + what);
}

// Times of a field: a list of at least one number.
Status read_times(const std::string& path, const json& root, const char* field,
                  std::vector<double>& out) {
  const auto found = root.find(field);
  if (found == root.end() || !found->is_array() || found->empty()) {
    return bad(path, std::string(field) + " is not a list of numbers");
  }
  for (const json& item : *found) {
    const double value = item.is_number() ? item.get<double>() : -1.0;
    if (!(value >= 0 && value <= kMostMicroseconds)) {
      return bad(path, std::string(field) + " holds something else than times");
    }
    out.push_back(value);
  }
  return {};
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::string string_field(const json& root, const char* field) {
  const auto found = root.find(field);
  return found != root.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool is_hash(const json& value) {
  if (!value.is_string()) return false;
  const auto& text = value.get_ref<const std::string&>();
  return text.size() == 16 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

Status check_count(const std::string& path, std::string_view field, std::size_t given,
                   std::size_t wanted, std::string_view whose) {
  if (given == wanted) return {};
  return Status(Code::kCorrupt, fmt::format("{}: {} has {} times, and {} has {}", path, field,
                                            given, whose, wanted));
}

}  // namespace

std::string cost_file_json(const CostFile& costs) {
  nlohmann::ordered_json root;
  root["format"] = "splitee-costs";
  root["version"] = 1;
  root["model_hash"] = costs.model_hash;
  root["target"] = costs.target;
  root["dtype"] = costs.dtype;
  root["seq"] = costs.seq;
  root["threads"] = costs.threads;
  root["embedding_us"] = costs.embedding_us;
  root["layers_us"] = costs.layers_us;
  root["exits_us"] = costs.exits_us;
  root["lazy_exits_us"] = costs.lazy_exits_us;
  root["rest_layers_us"] = costs.rest_layers_us;
  root["total_us"] = costs.total_us;
  return root.dump(2) + "\n";
}

Status write_cost_file(const std::string& path, const CostFile& costs) {
  const std::string text = cost_file_json(costs);
  return not_usage(write_file_atomically(path, std::as_bytes(std::span(text))));
}

Result<CostFile> read_cost_file(const std::string& path) {
  Result<std::string> text = read_file(path, kMaxFileBytes);
  if (!text.ok()) return not_usage(text.status());
  const json root = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return bad(path, "no JSON object");
  if (string_field(root, "format") != "splitee-costs") return bad(path, "format is missing");
  const auto version = root.find("version");
  if (version == root.end() || *version != 1) return bad(path, "version is not 1");
  CostFile costs;
  const auto model = root.find("model_hash");
  if (model != root.end() && !is_hash(*model)) return bad(path, "model_hash is not 16 hex digits");
  costs.model_hash = string_field(root, "model_hash");
  costs.target = string_field(root, "target");
  costs.dtype = string_field(root, "dtype");
  Status status = read_times(path, root, "layers_us", costs.layers_us);
  if (status.ok()) status = read_times(path, root, "exits_us", costs.exits_us);
  if (!status.ok()) return status;
  const double sum = mean(costs.layers_us) + mean(costs.exits_us);
  if (!(sum >= kLeastMicroseconds)) return bad(path, "all times are 0");
  return costs;
}

Status check_costs_of(const std::string& path, const CostFile& costs,
                      const runtime::Network& network) {
  if (costs.model_hash.empty()) return {};
  const std::string own = hash_to_string(network.hash());
  if (costs.model_hash != own && costs.model_hash != hash_to_string(network.answers_hash())) {
    return Status(
        Code::kCorrupt,
        fmt::format("{}: measured with another model (hash {}) than {} ({}): measure this "
                    "one with `splitee profile`, or leave out model_hash where the times "
                    "hold for it too",
                    path, costs.model_hash, network.path(), own));
  }
  const runtime::NetworkInfo& info = network.info();
  Status status =
      check_count(path, "layers_us", costs.layers_us.size(), info.layers(), "the model");
  return status.ok()
             ? check_count(path, "exits_us", costs.exits_us.size(), info.exits(), "the model")
             : status;
}

Status check_costs_of(const std::string& path, const CostFile& costs, std::size_t exits) {
  if (costs.model_hash.empty()) return {};
  return check_count(path, "exits_us", costs.exits_us.size(), exits, "the trace");
}

double layer_share(const CostFile& costs) {
  return mean(costs.layers_us) / unit_us(costs);
}

double unit_us(const CostFile& costs) {
  return mean(costs.layers_us) + mean(costs.exits_us);
}

}  // namespace splitee::tools

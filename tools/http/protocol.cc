#include "tools/http/protocol.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <iterator>
#include <utility>
#include <variant>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace splitee::tools {

namespace {

using nlohmann::ordered_json;

// Labels are a model file's: not always UTF-8.
template <class Json>
std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Values of an output, all rows after each other.
using Column = std::variant<std::vector<float>, std::vector<std::int32_t>,
                            std::vector<std::int64_t>, std::vector<std::string>>;

template <class T, class Get>
Column collect(std::span<const RowAnswer> answers, const Get& get) {
  std::vector<T> values;
  for (const RowAnswer& answer : answers) values.push_back(static_cast<T>(get(answer)));
  return values;
}

template <class Get>
Column collect_lists(std::span<const RowAnswer> answers, const Get& get) {
  std::vector<float> values;
  for (const RowAnswer& answer : answers) {
    const std::vector<float>& list = get(answer);
    values.insert(values.end(), list.begin(), list.end());
  }
  return values;
}

Column column_of(OutputKind kind, std::span<const RowAnswer> answers,
                 const std::vector<std::string>& labels) {
  using A = const RowAnswer&;
  switch (kind) {
    case OutputKind::kLabel:
      return collect<std::string>(answers, [&](A a) { return labels[a.class_index]; });
    case OutputKind::kConfidence:
      return collect<float>(answers, [](A a) { return a.confidence; });
    case OutputKind::kExitLayer:
      return collect<std::int32_t>(answers, [](A a) { return a.exit_layer; });
    case OutputKind::kProbabilities:
    case OutputKind::kValue:
      return collect_lists(
          answers, [](A a) -> auto& { return a.probabilities; });
    case OutputKind::kRoute:
      return collect<std::string>(answers, [](A a) { return a.route; });
    case OutputKind::kCost:
      return collect<float>(answers, [](A a) { return a.cost; });
    case OutputKind::kExitConfidences:
      return collect_lists(
          answers, [](A a) -> auto& { return a.exit_confidences; });
    case OutputKind::kLatencyUs:
      return collect<std::int64_t>(answers, [](A a) { return a.latency_us; });
    case OutputKind::kBytesSent:
      return collect<std::int64_t>(answers, [](A a) { return a.bytes_sent; });
  }
  return {};
}

std::string json_values(const Column& column) {
  std::string text = "[";
  const auto out = std::back_inserter(text);
  std::visit(
      [&](const auto& values) {
        for (const auto& value : values) {
          if (text.size() > 1) text += ',';
          if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>) {
            text += dump(nlohmann::json(value));
          } else {
            fmt::format_to(out, "{}", value);
          }
        }
      },
      column);
  return text + "]";
}

static_assert(std::endian::native == std::endian::little);

template <class T>
void append_bytes(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string binary_values(const Column& column) {
  std::string bytes;
  std::visit(
      [&](const auto& values) {
        for (const auto& value : values) {
          if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>) {
            append_bytes(bytes, static_cast<std::uint32_t>(value.size()));
            bytes += value;
          } else {
            append_bytes(bytes, value);
          }
        }
      },
      column);
  return bytes;
}

ordered_json described(const TensorInfo& tensor) {
  ordered_json json{{"name", tensor.name}, {"datatype", tensor.datatype}, {"shape", {-1}}};
  if (tensor.columns > 0) json["shape"].push_back(tensor.columns);
  return json;
}

ordered_json described(const InputForm& form) {
  ordered_json json{{"datatype", form.datatype}, {"shape", {-1}}};
  for (const std::size_t side : form.sides) {
    side == 0 ? json["shape"].push_back(-1) : json["shape"].push_back(side);
  }
  return json;
}

ordered_json described(const InputInfo& input) {
  ordered_json json{{"name", input.name}};
  json.update(described(input.forms.front()));
  for (std::size_t i = 1; i < input.forms.size(); ++i) {
    json["parameters"]["other_forms"].push_back(described(input.forms[i]));
  }
  return json;
}

}  // namespace

HttpResponse json_error(unsigned status, const std::string& message) {
  return {status, "application/json", dump(ordered_json{{"error", message}})};
}

std::string model_name_of(const runtime::Network& network) {
  return std::filesystem::path(network.path()).stem().string();
}

InferProtocol::InferProtocol(const runtime::NetworkInfo& info, std::string model_name, Role role)
    : model_name_(std::move(model_name)),
      role_(role),
      kind_(info.input),
      labels_(info.labels),
      exit_layers_(info.exit_layers) {
  switch (kind_) {
    case runtime::InputKind::kNumbers:
      inputs_.push_back({"numbers", {{"FP32", {info.numbers}}}});
      break;
    case runtime::InputKind::kImage:
      inputs_.push_back({"image", {{"BYTES"}, {"UINT8", {0, 0, 3}}, {"FP32", {0, 0, 3}}}});
      break;
    case runtime::InputKind::kText:
      inputs_.push_back({"text", {{"BYTES"}}});
      if (info.pairs) inputs_.push_back({"text2", {{"BYTES"}}});
  }
  const auto add = [this](OutputKind kind, std::string name, std::string type,
                          std::size_t columns = 0) {
    outputs_.push_back({{std::move(name), std::move(type), columns}, kind});
  };
  if (info.output == runtime::Output::kValue) add(OutputKind::kValue, "value", "FP32");
  if (info.output == runtime::Output::kClasses) {
    add(OutputKind::kLabel, "label", "BYTES");
    add(OutputKind::kConfidence, "confidence", "FP32");
  }
  add(OutputKind::kExitLayer, "exit_layer", "INT32");
  if (info.output != runtime::Output::kValue) {
    add(OutputKind::kProbabilities, "probabilities", "FP32", info.classes());
  }
  if (role_ == Role::kServer) return;
  add(OutputKind::kRoute, "route", "BYTES");
  add(OutputKind::kCost, "cost", "FP32");
  add(OutputKind::kExitConfidences, "exit_confidences", "FP32", info.exits());
  add(OutputKind::kLatencyUs, "latency_us", "INT64");
  add(OutputKind::kBytesSent, "bytes_sent", "INT64");
}

std::string InferProtocol::metadata() const {
  ordered_json json{{"name", model_name_},
                    {"versions", {kModelVersion}},
                    {"platform", "splitee_gguf"},
                    {"inputs", ordered_json::array()},
                    {"outputs", ordered_json::array()}};
  for (const InputInfo& input : inputs_) {
    json["inputs"].push_back(described(input));
    if (&input != &inputs_.front()) json["inputs"].back()["parameters"] = {{"optional", true}};
  }
  for (const OutputInfo& output : outputs_) json["outputs"].push_back(described(output.tensor));
  return dump(json);
}

HttpResponse InferProtocol::encode(const InferRequest& request,
                                   std::span<const RowAnswer> answers) const {
  std::string text, binary;
  for (const WantedOutput& wanted : request.outputs) {
    const auto info = std::ranges::find(outputs_, wanted.kind, &OutputInfo::kind);
    SPLITEE_CHECK(info != outputs_.end());
    const TensorInfo& tensor = info->tensor;
    const Column column = column_of(wanted.kind, answers, labels_);
    text += fmt::format(R"({}{{"name":"{}","datatype":"{}","shape":[{}{}],)",
                        text.empty() ? "" : ",", tensor.name, tensor.datatype, answers.size(),
                        tensor.columns > 0 ? fmt::format(",{}", tensor.columns) : "");
    if (wanted.binary) {
      const std::string bytes = binary_values(column);
      text += fmt::format(R"("parameters":{{"binary_data_size":{}}}}})", bytes.size());
      binary += bytes;
    } else {
      text += fmt::format(R"("data":{}}})", json_values(column));
    }
  }
  std::string id;
  if (!request.id.empty()) id = fmt::format(R"("id":{},)", dump(nlohmann::json(request.id)));
  HttpResponse response{200, "application/json",
                        fmt::format(R"({{"model_name":{},"model_version":"{}",{}"outputs":[{}]}})",
                                    dump(nlohmann::json(model_name_)), kModelVersion, id, text)};
  if (binary.empty()) return response;
  response.headers.emplace_back(kJsonLengthHeader, std::to_string(response.body.size()));
  response.type = "application/octet-stream";
  response.body += binary;
  return response;
}

}  // namespace splitee::tools

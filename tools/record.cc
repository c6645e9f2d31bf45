#include "tools/record.h"

#include <cmath>
#include <iterator>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace splitee::tools {

namespace {

std::string quote(const std::string& text) {
  using nlohmann::json;
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

// JSON has no NaN.
void append_number(std::string& out, float value) {
  if (std::isfinite(value)) {
    fmt::format_to(std::back_inserter(out), "{}", value);
  } else {
    out += "null";
  }
}

void append_payload(std::string& out, std::optional<transport::Dtype> payload) {
  if (!payload) {
    out += "null";
  } else if (*payload == transport::Dtype::kTokens) {
    out += "\"input\"";
  } else {
    fmt::format_to(std::back_inserter(out), "\"{}\"", transport::to_string(*payload));
  }
}

void append_exit(std::string& out, std::size_t layer, const std::vector<float>& probabilities) {
  fmt::format_to(std::back_inserter(out), R"({{"layer": {}, "probabilities": [)", layer);
  for (std::size_t i = 0; i < probabilities.size(); ++i) {
    if (i > 0) out += ", ";
    append_number(out, probabilities[i]);
  }
  out += "]}";
}

}  // namespace

RecordWriter::RecordWriter(const std::vector<std::string>& labels,
                           std::vector<std::size_t> exit_layers)
    : exit_layers_(std::move(exit_layers)) {
  for (const std::string& label : labels) quoted_labels_.push_back(quote(label));
}

const std::string& RecordWriter::line(const Record& r) {
  line_.clear();
  const auto out = std::back_inserter(line_);
  fmt::format_to(out, R"({{"id": {}, "class": {}, "label": {}, "confidence": )", r.id,
                 r.class_index, quoted_labels_[r.class_index]);
  append_number(line_, r.confidence);
  fmt::format_to(out, R"(, "split": {}, "exit_layer": {}, "route": "{}", "cost": {:.6g}, )",
                 r.split, r.exit_layer, policy::route_name(r.route), r.cost);
  line_ += "\"reward\": ";
  append_number(line_, static_cast<float>(r.reward));
  fmt::format_to(out, R"(, "edge_us": {}, "link_us": {}, "server_us": {}, "bytes_sent": {})",
                 r.edge_us, r.link_us, r.server_us, r.bytes_sent);
  line_ += ", \"payload\": ";
  append_payload(line_, r.payload);
  if (r.truth) fmt::format_to(out, R"(, "truth": {})", *r.truth);
  if (!r.exits.empty()) {
    line_ += ", \"exits\": [";
    for (std::size_t i = 0; i < r.exits.size(); ++i) {
      if (i > 0) line_ += ", ";
      append_exit(line_, exit_layers_[i], r.exits[i]);
    }
    line_ += "]";
  }
  line_ += "}\n";
  return line_;
}

}  // namespace splitee::tools

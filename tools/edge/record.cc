#include "tools/edge/record.h"

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
  } else {
    fmt::format_to(std::back_inserter(out), "\"{}\"", transport::to_string(*payload));
  }
}

void append_audit(std::string& out, const Record& r) {
  const bool audited = r.route == policy::Route::kAudit;
  fmt::format_to(std::back_inserter(out), ", \"audited\": {}", audited);
  if (!audited) return;
  out += ", \"would_exit\": ";
  out += r.would_exit ? std::to_string(*r.would_exit) : "null";
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

RecordWriter::RecordWriter(const runtime::NetworkInfo& info)
    : output_(info.output), exit_layers_(info.exit_layers) {
  for (const std::string& label : info.labels) quoted_labels_.push_back(quote(label));
}

void RecordWriter::append_answer(const Record& r) {
  const auto out = std::back_inserter(line_);
  if (output_ == runtime::Output::kClasses) {
    fmt::format_to(out, R"("class": {}, "label": {}, "confidence": )", r.class_index,
                   quoted_labels_[r.class_index]);
    append_number(line_, r.confidence);
  } else if (output_ == runtime::Output::kValue) {
    line_ += "\"value\": ";
    append_number(line_, r.answers.front());
  } else {
    for (std::size_t i = 0; i < r.answers.size(); ++i) {
      fmt::format_to(out, "{}{}: ", i == 0 ? "\"labels\": {" : ", ", quoted_labels_[i]);
      append_number(line_, r.answers[i]);
    }
    line_ += "}";
  }
}

const std::string& RecordWriter::line(const Record& r) {
  line_.clear();
  const auto out = std::back_inserter(line_);
  fmt::format_to(out, R"({{"id": {}, )", r.id);
  append_answer(r);
  fmt::format_to(out,
                 R"(, "split": {}, "arm": {}, "exit_layer": {}, "route": "{}", "cost": {:.6g})",
                 r.split, r.arm, r.exit_layer, policy::route_name(r.route), r.cost);
  if (output_ == runtime::Output::kClasses) {
    line_ += ", \"reward\": ";
    append_number(line_, static_cast<float>(r.reward));
  }
  fmt::format_to(out, R"(, "edge_us": {}, "link_us": {}, "server_us": {}, "bytes_sent": {})",
                 r.edge_us, r.link_us, r.server_us, r.bytes_sent);
  line_ += ", \"payload\": ";
  append_payload(line_, r.payload);
  append_audit(line_, r);
  if (r.truth) fmt::format_to(out, R"(, "truth": {})", *r.truth);
  if (r.age_us) fmt::format_to(out, R"(, "age_us": {})", *r.age_us);
  if (!r.path.empty()) line_ += ", \"path\": " + quote(r.path);
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

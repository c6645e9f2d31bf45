#include "tools/edge/live_figures.h"

#include <iterator>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace splitee::tools {

namespace {

using nlohmann::ordered_json;

constexpr std::size_t kRecent = 200;

// Writes families, each with its HELP and TYPE lines.
class Metrics {
 public:
  void family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    fmt::format_to(out(), "# HELP splitee_edge_{0} {1}\n# TYPE splitee_edge_{0} {2}\n", name, help,
                   type);
  }
  void sample(double value, std::string_view labels = "") {
    fmt::format_to(out(), "splitee_edge_{}{} {:.9g}\n", name_, labels, value);
  }
  void single(std::string_view name, std::string_view type, std::string_view help, double value) {
    family(name, type, help);
    sample(value);
  }
  std::string take() { return std::move(text_); }

 private:
  std::back_insert_iterator<std::string> out() { return std::back_inserter(text_); }
  std::string name_, text_;
};

void add_disagreement(Metrics& metrics, const policy::DisagreementReport& report) {
  metrics.single("disagreement_limit", "gauge", "Share of answers that may differ", report.limit);
  metrics.single("disagreement_estimate", "gauge", "Share of answers that differ, estimated",
                 report.estimate);
  metrics.single("disagreement_upper", "gauge", "Share of answers that differ, at most",
                 report.upper);
  metrics.single("audited_total", "counter", "Samples run to the last exit to check",
                 static_cast<double>(report.audited));
}

}  // namespace

void LiveFigures::add(const Record& record, const Moment& moment) {
  if (recent_.size() == kRecent) recent_.pop_front();
  Entry entry{record.exit_layer, record.route, record.edge_us + record.link_us + record.server_us,
              record.confidence, record.cost,  moment.link_up,
              std::nullopt};
  if (moment.disagreement) entry.upper = moment.disagreement->upper;
  recent_.push_back(entry);
  ++added_;
}

std::string LiveFigures::json(const Summary& summary, const Moment& moment,
                              std::size_t rows_waiting) const {
  const runtime::NetworkInfo& info = served_.network->info();
  ordered_json root{
      {"program", "splitee-edge"},
      {"version", SPLITEE_VERSION},
      {"model",
       {{"name", served_.protocol.model_name()},
        {"layers", info.layers()},
        {"exits", info.exit_layers},
        {"labels", info.labels},
        {"input", runtime::to_string(info.input)},
        {"pairs", info.pairs}}},
      {"link",
       {{"configured", moment.link_configured},
        {"up", moment.link_up},
        {"problem", moment.link_problem}}},
      {"waiting", rows_waiting},
      {"summary", ordered_json::parse(summary.json())},
  };
  ordered_json recent{{"first", added_ - recent_.size()}};
  for (const char* name :
       {"exit_layer", "route", "latency_us", "confidence", "cost", "link_up", "upper"}) {
    recent[name] = ordered_json::array();
  }
  for (const Entry& entry : recent_) {
    recent["exit_layer"].push_back(entry.exit_layer);
    recent["route"].push_back(policy::route_name(entry.route));
    recent["latency_us"].push_back(entry.latency_us);
    recent["confidence"].push_back(entry.confidence);
    recent["cost"].push_back(entry.cost);
    recent["link_up"].push_back(entry.link_up);
    recent["upper"].push_back(entry.upper ? ordered_json(*entry.upper) : ordered_json());
  }
  root["recent"] = std::move(recent);
  return root.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

std::string LiveFigures::metrics(const Summary& summary, const Moment& moment,
                                 std::size_t rows_waiting) const {
  const ordered_json figures = ordered_json::parse(summary.json());
  Metrics metrics;
  metrics.family("samples_total", "counter", "Samples answered, by the way they went");
  for (const auto& [route, count] : figures["routes"].items()) {
    metrics.sample(count.get<double>(), fmt::format("{{route=\"{}\"}}", route));
  }
  metrics.family("exits_total", "counter", "Samples answered, by the layer whose exit answered");
  for (const std::size_t layer : served_.network->info().exit_layers) {
    metrics.sample(figures["exit_layers"][layer].get<double>(),
                   fmt::format("{{layer=\"{}\"}}", layer));
  }
  metrics.single("sent_bytes_total", "counter", "Bytes sent to servers",
                 figures["bytes_sent"].get<double>());
  metrics.family("latency_seconds", "gauge", "Time of a sample, quantiles since the start");
  for (const auto& [quantile, name] : {std::pair("0.5", "p50"), std::pair("0.99", "p99")}) {
    metrics.sample(1e-6 * figures["latency_us"][name].get<double>(),
                   fmt::format("{{quantile=\"{}\"}}", quantile));
  }
  metrics.single("mean_cost", "gauge", "Mean cost of a sample, in lambda",
                 figures["mean_cost"].get<double>());
  metrics.single("waiting_rows", "gauge", "Rows of requests that wait",
                 static_cast<double>(rows_waiting));
  if (summary.board.temperature_celsius) {
    metrics.single("temperature_celsius", "gauge", "Of the hottest part that the system tells of",
                   *summary.board.temperature_celsius);
  }
  if (summary.board.throttled) {
    metrics.single("throttled", "gauge", "1 while the clock is held below its highest",
                   *summary.board.throttled ? 1 : 0);
  }
  if (moment.link_configured) {
    metrics.single("link_up", "gauge", "1 while a server can be reached", moment.link_up ? 1 : 0);
  }
  if (moment.disagreement) add_disagreement(metrics, *moment.disagreement);
  return metrics.take();
}

}  // namespace splitee::tools

#include "tools/edge/summary.h"

#include <iterator>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace splitee::tools {

using policy::Route;

namespace {

constexpr std::array<Route, policy::kRouteCount> kRoutes = {
    Route::kExit, Route::kOffload, Route::kFallback, Route::kFinal, Route::kAudit};

double share(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

Summary::Summary(std::size_t layers, const policy::CostModel& costs)
    : layers_(layers), splits_(layers + 1), exit_layers_(layers + 1) {
  set_costs(costs);
}

void Summary::set_costs(const policy::CostModel& costs) {
  final_cost_ = costs.cost(layers_, 1, false) / costs.lambda();
}

void Summary::add(const Record& record, std::size_t edge_layers, bool cut) {
  ++samples_;
  if (record.truth) {
    ++labelled_;
    if (*record.truth == record.class_index) ++correct_;
  }
  if (record.feedback) {
    ++feedback_;
    if (*record.feedback == record.class_index) ++feedback_right_;
  }
  if (cut) ++cut_;
  edge_layers_ += edge_layers;
  bytes_sent_ += record.bytes_sent;
  confidence_ += static_cast<double>(record.confidence);
  cost_ += record.cost;
  reward_ += record.reward;
  ++routes_[static_cast<std::size_t>(record.route)];
  ++splits_[record.split];
  ++exit_layers_[record.exit_layer];
  const std::int64_t latency_us = record.edge_us + record.link_us + record.server_us;
  latency_.add(latency_us);
  latency_sum_us_ += static_cast<double>(latency_us);
}

double Summary::mean(double sum) const {
  return samples_ == 0 ? 0.0 : sum / static_cast<double>(samples_);
}

double Summary::cost_saved() const {
  return samples_ == 0 ? 0.0 : 1.0 - mean(cost_) / final_cost_;
}

std::string Summary::table() const {
  std::string text;
  const auto row = [&text](std::string_view name, const std::string& value) {
    fmt::format_to(std::back_inserter(text), "  {:<24} {}\n", name, value);
  };
  row("policy", policy);
  row("samples", fmt::format("{}", samples_));
  if (labelled_ > 0) {
    row("accuracy",
        fmt::format("{:.2f} % of {} labelled", 100 * share(correct_, labelled_), labelled_));
  }
  for (const Route route : kRoutes) {
    row(fmt::format("route {}", policy::route_name(route)),
        fmt::format("{} ({:.1f} %)", routes(route), 100 * share(routes(route), samples_)));
  }
  if (feedback_ > 0) {
    row("right by feedback",
        fmt::format("{:.2f} % of {}", 100 * share(feedback_right_, feedback_), feedback_));
  }
  row("mean layers on the edge", fmt::format("{:.2f}", mean(static_cast<double>(edge_layers_))));
  row("mean cost", fmt::format("{:.2f} lambda (every layer: {:.2f})", mean(cost_), final_cost_));
  row("saved of all layers", fmt::format("{:.1f} %", 100 * cost_saved()));
  if (disagreement) {
    row("differs from last exit",
        fmt::format("estimated {:.2f} %, delivered {:.2f} %, limit {:.2f} %",
                    100 * disagreement->estimate, 100 * disagreement->delivered,
                    100 * disagreement->limit));
    row("certified", fmt::format("{}: at most {:.2f} %, by {} audits",
                                 disagreement->certified ? "yes" : "not yet",
                                 100 * disagreement->upper, disagreement->audited));
  }
  row("bytes sent", fmt::format("{}", bytes_sent_));
  row("latency mean, p50, p99",
      fmt::format("{:.2f} ms, {:.2f} ms, {:.2f} ms", mean(latency_sum_us_) / 1000,
                  latency_.quantile(0.5) / 1000, latency_.quantile(0.99) / 1000));
  if (link) {
    const std::string rate = link->bytes_per_second
                                 ? fmt::format("{:.2f} Mbit/s", *link->bytes_per_second * 8e-6)
                                 : "no time for bytes";
    row("link",
        fmt::format("round trip {:.2f} ms, {}; a layer takes {:.0f} us here, {:.0f} us there",
                    link->rtt_us / 1000, rate, layer_us, link->server_layer_us));
  }
  if (energy) {
    row("power", fmt::format("{:.2f} W computing, {:.2f} W waiting ({})", energy->computing_watts,
                             energy->waiting_watts, energy->source));
  }
  if (board.temperature_celsius) {
    row("temperature", fmt::format("{:.1f} C{}", *board.temperature_celsius,
                                   board.throttled.value_or(false) ? ", clock throttled" : ""));
  } else if (board.throttled.value_or(false)) {
    row("clock", "throttled");
  }
  if (retries > 0) row("sent to a second server", fmt::format("{}", retries));
  if (cut_ > 0) row("texts that fill the context", fmt::format("{}", cut_));
  if (dropped > 0) row("frames dropped", fmt::format("{}", dropped));
  if (invalid_utf8 > 0) row("texts not in UTF-8", fmt::format("{}", invalid_utf8));
  return text;
}

std::string Summary::json() const {
  nlohmann::ordered_json root;
  root["policy"] = policy;
  root["alpha"] = alpha;
  root["seed"] = seed;
  root["samples"] = samples_;
  root["labelled"] = labelled_;
  root["accuracy"] = nullptr;
  if (labelled_ > 0) root["accuracy"] = share(correct_, labelled_);
  root["mean_confidence"] = mean(confidence_);
  for (const Route route : kRoutes) {
    root["routes"][std::string(policy::route_name(route))] = routes(route);
  }
  root["mean_edge_layers"] = mean(static_cast<double>(edge_layers_));
  root["mean_cost"] = mean(cost_);
  root["final_cost"] = final_cost_;
  root["cost_saved"] = cost_saved();
  root["mean_reward"] = mean(reward_);
  root["bytes_sent"] = bytes_sent_;
  root["latency_us"] = {{"mean", mean(latency_sum_us_)},
                        {"p50", latency_.quantile(0.5)},
                        {"p99", latency_.quantile(0.99)}};
  root["splits"] = splits_;
  root["exit_layers"] = exit_layers_;
  root["retries"] = retries;
  root["layer_us"] = layer_us;
  root["link"] = nullptr;
  if (link) {
    root["link"] = {{"rtt_us", link->rtt_us},
                    {"bytes_per_second", nullptr},
                    {"server_layer_us", link->server_layer_us}};
    if (link->bytes_per_second) root["link"]["bytes_per_second"] = *link->bytes_per_second;
  }
  root["disagreement"] = nullptr;
  root["audit_rate"] = share(routes(Route::kAudit), samples_);
  if (disagreement) {
    root["disagreement"] = {
        {"limit", disagreement->limit},         {"audited", disagreement->audited},
        {"delivered", disagreement->delivered}, {"estimate", disagreement->estimate},
        {"upper", disagreement->upper},         {"certified", disagreement->certified}};
  }
  root["feedback"] = nullptr;
  if (feedback_ > 0) root["feedback"] = {{"given", feedback_}, {"right", feedback_right_}};
  root["energy"] = nullptr;
  if (energy) {
    root["energy"] = {{"source", energy->source},
                      {"computing_watts", energy->computing_watts},
                      {"waiting_watts", energy->waiting_watts}};
  }
  root["board"] = nullptr;
  if (board.known()) {
    nlohmann::ordered_json& told =
        root["board"] = {{"temperature_celsius", nullptr}, {"throttled", nullptr}};
    if (board.temperature_celsius) told["temperature_celsius"] = *board.temperature_celsius;
    if (board.throttled) told["throttled"] = *board.throttled;
  }
  root["invalid_utf8"] = invalid_utf8;
  root["cut"] = cut_;
  root["dropped"] = dropped;
  root["seconds"] = seconds;
  return root.dump(2) + "\n";
}

}  // namespace splitee::tools

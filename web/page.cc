#include "web/page.h"

#include <cmath>
#include <utility>

#include "base/clock.h"
#include "policy/model_options.h"
#include "policy/policy.h"
#include "policy/replay/replay.h"
#include "policy/replay/trace.h"
#include "runtime/loader/loader.h"

namespace splitee::web {
namespace {

Status refuse(const std::string& why) {
  return {Code::kInvalidArgument, why};
}

Json info_json(const runtime::NetworkInfo& info, const kernels::Kernels& kernels) {
  return {{"layers", info.layers()},       {"exit_layers", info.exit_layers},
          {"labels", info.labels},         {"alpha", info.alpha},
          {"dtype", info.dtype},           {"unit", info.unit},
          {"max_length", info.max_length}, {"target", kernels.target}};
}

// Layers computed here. An audit and what was meant for a server that is not there run all.
std::size_t layers_run(const policy::Decision& decision, std::span<const std::size_t> layer_of) {
  switch (decision.route) {
    case policy::Route::kExit:
      return layer_of[decision.exit_arm];
    case policy::Route::kOffload:
      return decision.arm == policy::kOffloadAtOnce ? 0 : layer_of[decision.arm];
    default:
      return layer_of.back();
  }
}

Json figures(const policy::ReplayResult& result) {
  Json root = {{"policy", result.policy},
               {"samples", result.samples},
               {"accuracy", nullptr},
               {"final_accuracy", nullptr},
               {"cost", result.cost.mean},
               {"final_cost", result.final_cost},
               {"cost_reduction", result.cost_reduction},
               {"offload_rate", result.offload_rate.mean},
               {"disagreement", result.disagreement.mean},
               {"audit_rate", result.audit_rate},
               {"upper", nullptr}};
  if (result.accuracy) root["accuracy"] = result.accuracy->mean;
  if (result.final_accuracy) root["final_accuracy"] = *result.final_accuracy;
  if (result.upper) root["upper"] = result.upper->mean;
  return root;
}

Result<Json> replay_json(const policy::Trace& trace, policy::ReplayOptions options) {
  const std::vector<std::size_t> layer_of = options.policy_options.layer_of;
  Json layers = Json::array(), routes = Json::array(), costs = Json::array(),
       differs = Json::array();
  options.on_decision = [&](const policy::Decision& decision) {
    layers.push_back(layers_run(decision, layer_of));
    routes.push_back(policy::route_name(decision.route));
    costs.push_back(decision.cost);
    differs.push_back(decision.differs);
  };
  const Result<policy::ReplayResult> result = policy::replay(trace, options);
  if (!result.ok()) return result.status();
  Json root = figures(*result);
  root["layers"] = std::move(layers);
  root["routes"] = std::move(routes);
  root["costs"] = std::move(costs);
  root["differs"] = std::move(differs);
  return root;
}

Status set_options(const Json& given, policy::PolicyOptions& options) {
  for (const policy::OptionInfo& option : policy::option_list()) {
    const auto found = given.find(std::string(option.name));
    if (found == given.end()) continue;
    const double value = found->is_number() ? found->get<double>() : std::nan("");
    if (!policy::in_range(option, value)) {
      return refuse(std::string(option.name) + ": " + found->dump() + " is not " +
                    policy::range_text(option));
    }
    option.set(options, value);
  }
  return {};
}

}  // namespace

Result<Json> Page::open(const std::string& name, std::span<const std::byte> bytes,
                        std::string_view target) {
  const kernels::Kernels* kernels = kernels::find_target(target);
  if (kernels == nullptr) return refuse(std::string(target) + ": no such kernels");
  const Result<std::shared_ptr<const runtime::Network>> network =
      runtime::network_from_bytes(name, bytes, *kernels, {.preload = runtime::kAllLayers});
  if (!network.ok()) return network.status();
  const runtime::NetworkInfo& info = (*network)->info();
  if (info.output != runtime::Output::kClasses) {
    return refuse(name + ": its exits do not give probabilities of classes");
  }
  engine_ = (*network)->make_engine();
  network_ = *network;
  clear_stream();
  return info_json(info, *kernels);
}

Result<Page::Answers> Page::run(const std::string& text) {
  if (network_ == nullptr) return refuse("no network is open");
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) return refuse("the text is empty");
  const Stopwatch watch;
  const Result<runtime::Prepared> input = network_->prepare({.bytes = text});
  if (!input.ok()) return input.status();
  if (Status status = engine_->begin(input->view()); !status.ok()) return status;
  Answers answers{.length = input->length, .full = input->full};
  const std::vector<std::size_t>& layers = network_->info().exit_layers;
  for (std::size_t exit = 0; exit < layers.size(); ++exit) {
    if (Status status = engine_->run_to(layers[exit]); !status.ok()) return status;
    const std::span<const float> probabilities = engine_->evaluate_exit(exit);
    answers.probabilities.insert(answers.probabilities.end(), probabilities.begin(),
                                 probabilities.end());
    answers.us.push_back(watch.elapsed_exact_us());
  }
  return answers;
}

void Page::append(policy::Trace& trace, const Answers& answers, int label) const {
  const runtime::NetworkInfo& info = network_->info();
  trace.exits = info.exits();
  const bool known = label >= 0 && label < static_cast<int>(info.classes());
  trace.label.push_back(known ? static_cast<policy::ClassNumber>(label) : policy::kNoLabel);
  for (std::size_t exit = 0; exit < info.exits(); ++exit) {
    const policy::ExitReading reading = policy::read_exit(
        std::span(answers.probabilities).subspan(exit * info.classes(), info.classes()));
    trace.prediction.push_back(static_cast<policy::ClassNumber>(reading.prediction));
    trace.confidence.push_back(static_cast<double>(reading.confidence));
  }
}

Result<Json> Page::classify(const std::string& text, double alpha) {
  const Result<Answers> answers = run(text);
  if (!answers.ok()) return answers.status();
  const runtime::NetworkInfo& info = network_->info();
  policy::Trace trace;
  append(trace, *answers, -1);
  policy::ReplayOptions options{.policy = "threshold", .order = policy::Order::kFile};
  options.policy_options.layer_of = info.exit_layers;
  options.policy_options.alpha = alpha;
  const Result<Json> decided = replay_json(trace, options);
  if (!decided.ok()) return decided.status();
  Json exits = Json::array();
  for (std::size_t exit = 0; exit < info.exits(); ++exit) {
    const auto answer = static_cast<std::size_t>(trace.prediction[exit]);
    exits.push_back({{"layer", info.exit_layers[exit]},
                     {"class", answer},
                     {"label", info.labels[answer]},
                     {"confidence", trace.confidence[exit]},
                     {"us", answers->us[exit]}});
  }
  return Json{{"length", answers->length},
              {"full", answers->full},
              {"stop_layer", (*decided)["layers"][0]},
              {"exits", std::move(exits)}};
}

Result<Json> Page::add_to_stream(const std::string& text, int label) {
  const Result<Answers> answers = run(text);
  if (!answers.ok()) return answers.status();
  if (stream_.exits != network_->info().exits()) stream_ = {};  // a trace of another network
  append(stream_, *answers, label);
  return Json{{"samples", stream_.samples()}};
}

Result<Json> Page::load_stream(const std::string& name, std::string_view csv) {
  Result<policy::Trace> trace = policy::parse_trace(csv, name);
  if (!trace.ok()) return trace.status();
  stream_ = std::move(*trace);
  return Json{{"samples", stream_.samples()}, {"exits", stream_.exits}};
}

Result<policy::ReplayOptions> Page::options_of(const Json& settings) const {
  policy::ReplayOptions options{.policy = settings.value("policy", "")};
  options.order = policy::Order::kFile;
  options.seed = settings.value("seed", std::uint64_t{0});
  policy::PolicyOptions& of_policy = options.policy_options;
  const Json alpha = settings.value("alpha", Json());
  // A trace of a file may be of another network.
  if (network_ != nullptr && network_->info().exits() == stream_.exits) {
    policy::take_from_model(network_->info(), alpha.is_null(), of_policy);
  }
  if (of_policy.layer_of.empty()) {
    for (std::size_t i = 1; i <= stream_.exits; ++i) of_policy.layer_of.push_back(i);
  }
  if (!alpha.is_null()) of_policy.alpha = alpha.get<double>();
  const Json offload = settings.value("offload", Json());
  options.server = !offload.is_null();
  if (options.server) of_policy.costs.offload = offload.get<double>();
  of_policy.costs.lambda1 = settings.value("lambda", of_policy.costs.lambda1);
  const Status set = set_options(settings.value("options", Json::object()), of_policy);
  if (!set.ok()) return set;
  return options;
}

Result<Json> Page::replay(std::string_view settings) const {
  if (stream_.samples() == 0) return refuse("the stream has no samples yet");
  const Json parsed = Json::parse(settings, nullptr, false);
  if (!parsed.is_object()) return refuse("settings: not a JSON object");
  Result<policy::ReplayOptions> options = options_of(parsed);
  if (!options.ok()) return options.status();
  return replay_json(stream_, std::move(*options));
}

Json Page::policies() {
  Json list = Json::array();
  for (const policy::PolicyInfo& info : policy::policy_list()) {
    if (info.looks == policy::Looks::kAtGivenSplit) continue;  // it would have to be told which
    list.push_back({{"name", info.name}, {"summary", info.summary}, {"sends", info.sends}});
  }
  return {{"default", policy::kDefaultPolicy}, {"policies", std::move(list)}};
}

}  // namespace splitee::web

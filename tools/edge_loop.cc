#include "tools/edge_loop.h"

#include "tools/console.h"

namespace splitee::tools {

using policy::Link;
using policy::Outcome;
using policy::Route;
using runtime::Status;

EdgeLoop::EdgeLoop(std::shared_ptr<const runtime::Model> model, policy::Policy& policy,
                   const policy::PolicyOptions& options, transport::Client* client,
                   const EdgeSettings& settings)
    : model_(std::move(model)),
      options_(options),
      client_(client),
      settings_(settings),
      engine_(model_, settings.threads),
      network_(engine_, client, settings.deadline_us),
      session_(policy, options) {}

void EdgeLoop::notice(const std::string& message) {
  if (!settings_.notices || message == last_notice_) return;
  last_notice_ = message;
  print_message(fmt::format("splitee-edge: {}\n", message));
}

Link EdgeLoop::link() {
  if (client_ == nullptr) return Link::kNone;
  const bool up = client_->available();
  if (up && !link_up_) notice("link is up again");
  if (!up) {
    notice(fmt::format("no server: {}; samples are finished here", client_->last_problem()));
  }
  link_up_ = up;
  return up ? Link::kUp : Link::kDown;
}

Status EdgeLoop::classify(const Sample& sample, Record& record) {
  const Link state = link();
  const Stopwatch watch;
  std::string_view text2;
  if (sample.text2) text2 = *sample.text2;
  const std::size_t max_tokens = model_->config().max_tokens;
  input_ = model_->tokenizer().encode(sample.text, sample.text2 ? &text2 : nullptr, max_tokens);
  cut_ = input_.ids.size() == max_tokens;
  network_.start(input_);
  const Outcome& outcome = session_.run(state, network_);
  const std::int64_t total_us = watch.elapsed_us();
  if (!network_.status().ok()) return network_.status();
  if (!network_.problem().empty()) notice("offload failed: " + network_.problem());

  record.id = sample.id;
  record.truth = sample.truth;
  record.edge_us = total_us - network_.usage().wait_us;
  fill(outcome, record);
  layers_run_ = network_.layers_run();
  if (settings_.exits) evaluate_exits(record);
  return {};
}

void EdgeLoop::fill(const Outcome& outcome, Record& record) const {
  const bool at_once = outcome.plan.arm == policy::kOffloadAtOnce;
  const Usage& usage = network_.usage();
  record.class_index = network_.class_index();
  record.confidence = outcome.answer_confidence;
  record.split = at_once ? 0 : options_.layer_of[outcome.plan.arm];
  record.exit_layer = options_.layer_of[outcome.exit_arm];
  record.route = outcome.route;
  // The policy paid for no offload, but for people this is a sample that the link failed.
  if (outcome.plan.link == Link::kDown && outcome.exit_arm != outcome.plan.arm &&
      outcome.route == Route::kFinal) {
    record.route = Route::kFallback;
  }
  record.cost = outcome.cost / options_.costs.lambda();
  record.reward = options_.costs.reward(outcome.answer_confidence, outcome.cost);
  record.link_us = usage.link_us;
  record.server_us = usage.server_us;
  record.bytes_sent = usage.bytes_sent;
}

void EdgeLoop::evaluate_exits(Record& record) {
  const auto& layers = model_->config().exit_layers;
  record.exits.resize(layers.size());
  // The sample went through the engine or would have: begin() takes it.
  if (!engine_.begin(input_.ids, input_.types).ok()) return;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (!engine_.run_to(layers[i]).ok()) return;
    engine_.finish_layer();
    const std::span<const float> probabilities = engine_.evaluate_exit(i);
    record.exits[i].assign(probabilities.begin(), probabilities.end());
  }
}

}  // namespace splitee::tools

// Policies: the library's and the caller's own.
#include <cmath>

#include "capi/handles.h"
#include "capi/own_policy.h"
#include "policy/episode.h"
#include "tools/common/flags.h"

namespace splitee::capi {
namespace {

// What an EpisodeRunner asks of a network, asked of the caller.
class CalledNetwork {
 public:
  CalledNetwork(const splitee_network_calls& calls, std::size_t classes)
      : calls_(calls), probabilities_(classes) {}

  policy::ExitReading evaluate(std::size_t exit) {
    if (failed_) return {};
    failed_ = calls_.evaluate(calls_.user, exit, probabilities_.data(), probabilities_.size()) != 0;
    return failed_ ? policy::ExitReading{} : policy::read_exit(probabilities_);
  }
  std::optional<policy::ServerReply> offload(std::size_t exit) {
    if (calls_.offload == nullptr) return std::nullopt;
    if (calls_.offload(calls_.user, exit, probabilities_.data(), probabilities_.size()) != 0) {
      return std::nullopt;
    }
    const policy::ExitReading reading = policy::read_exit(probabilities_);
    return policy::ServerReply(reading.confidence, static_cast<std::uint32_t>(reading.prediction));
  }
  bool failed() const { return failed_; }

 private:
  const splitee_network_calls& calls_;
  std::vector<float> probabilities_;
  bool failed_ = false;
};

int run(PolicyParts& parts, int link, const splitee_network_calls& calls, splitee_outcome* out) {
  policy::EpisodeRunner runner(*parts.policy, parts.policy_options);
  CalledNetwork network(calls, parts.network->info().classes());
  policy::Episode episode;
  const auto state = static_cast<policy::LinkState>(link);
  if (runner.start(episode, state, network) == policy::EpisodeRunner::Step::kSend) {
    runner.finish(episode, network.offload(episode.sent_from), network,
                  runner.offload_cost(episode));
  }
  // Nothing is learned from a sample that the network failed.
  if (network.failed()) return fail(SPLITEE_CALLBACK, "evaluate failed");
  runner.learn(episode);
  if (parts.failed != nullptr && std::exchange(*parts.failed, false)) {
    return fail(SPLITEE_CALLBACK, kOwnPolicyFailed);
  }
  parts.confidences = std::move(episode.confidence);
  parts.classes = std::move(episode.classes);
  splitee_outcome filled = outcome_of(episode.outcome, parts.policy_options.costs);
  filled.exits = parts.confidences.size();
  filled.confidences = parts.confidences.data();
  filled.class_indices = parts.classes.data();
  return fail(give(filled, out));
}

Status check_link(int link) {
  return link >= SPLITEE_LINK_NONE && link <= SPLITEE_LINK_DOWN ? Status() : invalid("link");
}

}  // namespace

splitee_outcome outcome_of(const policy::Outcome& outcome, const policy::CostModel& costs) {
  splitee_outcome filled{};
  filled.struct_size = sizeof filled;
  filled.sample = outcome.plan.ticket;
  filled.route = static_cast<int>(outcome.route);
  filled.exit = outcome.exit_arm;
  filled.class_index = outcome.answer_class;
  filled.confidence = outcome.answer_confidence;
  filled.cost = outcome.cost / costs.lambda();
  filled.exits = outcome.confidence.size();
  filled.confidences = outcome.confidence.data();
  filled.class_indices = outcome.classes.data();
  return filled;
}

Result<PolicyParts> make_policy_parts(std::shared_ptr<const runtime::Network> network,
                                      const splitee_policy_calls* own, tools::EdgeOptions options) {
  if (own != nullptr && options.policy_given) return invalid("policy: the caller has his own");
  if (Status status = own != nullptr ? tools::check_confidence(*network)
                                     : tools::choose_policy(*network, options);
      !status.ok()) {
    return status;
  }
  PolicyParts parts;
  Result<policy::PolicyOptions> made = tools::policy_options(options, *network);
  if (!made.ok()) return made.status();
  parts.policy_options = std::move(*made);
  if (own != nullptr) {
    parts.failed = std::make_unique<bool>(false);
    parts.policy = std::make_unique<OwnPolicy>(*own, parts.policy_options, parts.failed.get());
  } else {
    auto policy = policy::make_policy(options.policy, parts.policy_options);
    if (!policy.ok()) return policy.status();
    parts.policy = std::move(*policy);
  }
  parts.network = std::move(network);
  parts.options = std::move(options);
  return parts;
}

}  // namespace splitee::capi

using namespace splitee::capi;
using splitee::Status;

int splitee_policy_create(const splitee_model* model, const splitee_policy_calls* calls,
                          const char* const* options, const void* state, size_t state_bytes,
                          splitee_policy** policy) {
  return guarded([&]() -> Status {
    if (model == nullptr || policy == nullptr) return invalid("model or policy is NULL");
    splitee_policy_calls own{};
    if (calls != nullptr) {
      if (Status status = take_calls(calls, own); !status.ok()) return status;
    }
    splitee::tools::EdgeOptions parsed;
    Status status = parse_edge_words(words_of(options), splitee::tools::kPolicyWords, parsed);
    if (!status.ok()) return status;
    auto parts = make_policy_parts(model->network, calls == nullptr ? nullptr : &own, parsed);
    if (!parts.ok()) return parts.status();
    if (state != nullptr) {
      status = parts->policy->load_state({static_cast<const char*>(state), state_bytes});
      if (!status.ok()) return status;
    }
    auto handle = std::make_unique<splitee_policy>();
    handle->parts = std::make_shared<PolicyParts>(std::move(*parts));
    *policy = handle.release();
    return {};
  });
}

int splitee_policy_run(splitee_policy* policy, int link, const splitee_network_calls* network,
                       splitee_outcome* outcome) {
  return guarded([&]() -> int {
    splitee_network_calls calls;
    if (policy == nullptr) return fail(invalid("policy is NULL"));
    Status status = take(network, calls);
    if (status.ok()) status = check_link(link);
    if (status.ok() && calls.evaluate == nullptr) status = invalid("evaluate is NULL");
    return status.ok() ? run(*policy->parts, link, calls, outcome) : fail(status);
  });
}

int splitee_policy_save(const splitee_policy* policy, void* data, size_t capacity, size_t* bytes) {
  return guarded([&]() -> int {
    if (policy == nullptr) return fail(invalid("policy is NULL"));
    if (policy->parts->failed != nullptr) {
      return fail(SPLITEE_UNSUPPORTED, "the caller's own policy: its state is the caller's too");
    }
    const std::string state = policy->parts->policy->save_state();
    return copy_out(state.data(), state.size(), data, capacity, bytes);
  });
}

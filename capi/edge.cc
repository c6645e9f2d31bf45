// An edge: the loop of splitee-edge over samples that a caller hands in.
#include <cstdint>
#include <limits>
#include <random>

#include "base/clock.h"
#include "capi/handles.h"
#include "capi/own_policy.h"
#include "tools/common/row_parser.h"
#include "tools/edge/edge_loop.h"
#include "tools/edge/state_file.h"
#include "tools/edge/summary.h"

using namespace splitee;
using splitee::capi::PolicyParts;

// The last save of a state waits so long for a disk.
constexpr std::int64_t kMostSaveUs = 10'000'000;

struct splitee_edge : capi::Handle {
  splitee_edge(std::shared_ptr<const runtime::Network> of, std::shared_ptr<PolicyParts> with,
               std::shared_ptr<transport::Client> link, const tools::EdgeSettings& settings)
      : network(std::move(of)),
        parts(std::move(with)),
        client(std::move(link)),
        labels(network->info()),
        writer(network->info()),
        summary(network->info().layers(), parts->policy_options.costs),
        loop(network, *parts->policy, parts->policy_options, client.get(), settings) {}
  ~splitee_edge() override {
    (void)loop.finish_waiting();
    loop.learn_all();
    const Stopwatch watch;
    const auto late = [&watch] { return watch.elapsed_us() > kMostSaveUs; };
    if (state) (void)state->finish(late);
  }

  std::shared_ptr<const runtime::Network> network;
  std::shared_ptr<PolicyParts> parts;
  std::shared_ptr<transport::Client> client;
  std::unique_ptr<tools::StateFile> state;
  tools::LabelParser labels;
  tools::RecordWriter writer;
  tools::Summary summary;
  tools::EdgeLoop loop;
  std::size_t max_length = 0, in_progress = 0;
  tools::Record record;  // the last one given out
  std::string json;
};

namespace splitee::capi {
namespace {

Status load_state(splitee_edge& edge, const std::string& path) {
  if (path.empty()) return {};
  if (edge.parts->failed != nullptr) {
    return invalid("state: the caller's own policy keeps its state itself");
  }
  edge.state = std::make_unique<tools::StateFile>(path, *edge.parts->policy);
  if (Status status = edge.state->load(); !status.ok()) return status;
  if (!edge.state->loaded()) return {};
  // Two edges from one saved state must not audit the same samples.
  std::random_device device;
  edge.parts->policy->restarted((std::uint64_t{device()} << 32) | device() | 1);
  return {};
}

Status create(const splitee_model& model, splitee_policy* policy, splitee_client* client,
              const char* const* options, splitee_edge** out) {
  tools::EdgeOptions parsed;
  if (policy != nullptr) parsed = policy->parts->options;
  const unsigned groups = tools::kRunWords | tools::kLinkWords |
                          (policy == nullptr ? unsigned{tools::kPolicyWords} : 0u);
  if (Status status = parse_edge_words(words_of(options), groups, parsed); !status.ok()) {
    return status;
  }
  if (policy != nullptr && policy->parts->network != model.network) {
    return invalid("the policy is one of another model");
  }
  if (client != nullptr && client->network != model.network) {
    return invalid("the client is one of another model");
  }
  if (client != nullptr && !parsed.servers.empty()) {
    return invalid("server: the client given has its own");
  }
  std::shared_ptr<PolicyParts> parts;
  if (policy != nullptr) {
    parts = policy->parts;
  } else {
    auto made = make_policy_parts(model.network, nullptr, parsed);
    if (!made.ok()) return made.status();
    parts = std::make_shared<PolicyParts>(std::move(*made));
  }
  std::shared_ptr<transport::Client> link = client != nullptr ? client->client : nullptr;
  if (client == nullptr) {
    auto made = make_client(*model.network, parsed);
    if (!made.ok()) return made.status();
    link = std::move(*made);
  }
  parsed.quiet = true;  // a library prints nothing
  auto settings = tools::edge_settings(parsed);
  if (!settings.ok()) return settings.status();
  auto edge = std::make_unique<splitee_edge>(model.network, parts, std::move(link), *settings);
  edge->max_length = parsed.max_tokens;
  edge->summary.policy = std::string(parts->policy->name());
  edge->summary.alpha = parts->policy_options.alpha;
  edge->summary.seed = parsed.seed;
  if (Status status = load_state(*edge, parsed.state_path); !status.ok()) return status;
  *out = edge.release();
  return {};
}

int submit(splitee_edge& edge, const splitee_input& given) {
  if (edge.loop.full()) return fail(SPLITEE_FULL, "a record is to be taken first");
  auto input = input_of(edge.network->info(), given);
  if (!input.ok()) return fail(input.status());
  tools::Sample sample;
  sample.id = given.id;
  sample.input = std::move(*input);
  sample.input.max_length = edge.max_length;
  if (given.label != nullptr) {
    const auto truth = edge.labels.parse(given.label);
    if (!truth.ok()) return fail(truth.status());
    sample.truth = *truth;
  }
  if (Status status = edge.loop.start(sample); !status.ok()) return fail(status);
  ++edge.in_progress;
  return SPLITEE_OK;
}

Status hand_out(splitee_edge& edge, const tools::Finished& finished, splitee_record* out) {
  const runtime::NetworkInfo& info = edge.network->info();
  edge.summary.add(finished.record, finished.edge_layers, finished.cut);
  edge.record = finished.record;
  edge.json = edge.writer.line(edge.record);
  edge.json.pop_back();
  const tools::Record& record = edge.record;
  splitee_record filled{};
  filled.id = record.id;
  if (info.output == runtime::Output::kClasses) {
    filled.class_index = record.class_index;
    filled.label = info.labels[record.class_index].c_str();
    filled.confidence = record.confidence;
    filled.reward = record.reward;
  }
  filled.split = record.split;
  filled.exit_layer = record.exit_layer;
  filled.route = static_cast<int>(record.route);
  filled.cost = record.cost;
  filled.edge_us = record.edge_us;
  filled.link_us = record.link_us;
  filled.server_us = record.server_us;
  filled.bytes_sent = record.bytes_sent;
  filled.values_count = record.answers.size();
  filled.values = record.answers.data();
  filled.json = edge.json.c_str();
  return give(filled, out);
}

int next(splitee_edge& edge, std::int64_t timeout_ms, splitee_record* out) {
  if (out == nullptr || out->struct_size < sizeof *out) return fail(give(splitee_record{}, out));
  const Stopwatch watch;
  const tools::Finished* finished = edge.loop.take();
  while (finished == nullptr && edge.in_progress > 0) {
    const std::int64_t left_us = timeout_ms < 0 ? std::numeric_limits<std::int64_t>::max()
                                                : timeout_ms * 1000 - watch.elapsed_us();
    if (left_us <= 0) break;
    if (Status status = edge.loop.wait({}, left_us); !status.ok()) return fail(status);
    finished = edge.loop.take();
  }
  if (finished == nullptr) return fail(SPLITEE_NONE, "no record is there");
  --edge.in_progress;
  if (Status status = hand_out(edge, *finished, out); !status.ok()) return fail(status);
  if (edge.parts->failed != nullptr && std::exchange(*edge.parts->failed, false)) {
    return fail(SPLITEE_CALLBACK, kOwnPolicyFailed);
  }
  return edge.state ? fail(edge.state->sample_done()) : int{SPLITEE_OK};
}

}  // namespace
}  // namespace splitee::capi

using namespace splitee::capi;

int splitee_edge_create(const splitee_model* model, splitee_policy* policy, splitee_client* client,
                        const char* const* options, splitee_edge** edge) {
  return guarded([&]() -> Status {
    if (model == nullptr || edge == nullptr) return invalid("model or edge is NULL");
    return create(*model, policy, client, options, edge);
  });
}

int splitee_edge_submit(splitee_edge* edge, const splitee_input* input) {
  return guarded([&]() -> int {
    splitee_input given;
    if (edge == nullptr) return fail(invalid("edge is NULL"));
    if (Status status = take(input, given); !status.ok()) return fail(status);
    return submit(*edge, given);
  });
}

int splitee_edge_next(splitee_edge* edge, int64_t timeout_ms, splitee_record* record) {
  return guarded([&]() -> int {
    if (edge == nullptr) return fail(invalid("edge is NULL"));
    return next(*edge, timeout_ms, record);
  });
}

int splitee_classify(splitee_edge* edge, const splitee_input* input, splitee_record* record) {
  if (edge != nullptr && edge->in_progress > 0) {
    return guarded([] { return invalid("samples are in progress: take their records first"); });
  }
  if (record == nullptr || record->struct_size < sizeof *record) {
    return guarded([&] { return give(splitee_record{}, record); });
  }
  const int started = splitee_edge_submit(edge, input);
  return started == SPLITEE_OK ? splitee_edge_next(edge, -1, record) : started;
}

int splitee_edge_summary(splitee_edge* edge, char* json, size_t capacity, size_t* bytes) {
  return guarded([&]() -> int {
    if (edge == nullptr) return fail(invalid("edge is NULL"));
    edge->summary.disagreement = edge->parts->policy->disagreement();
    edge->summary.set_costs(edge->loop.costs());
    const std::string text = edge->summary.json();
    return copy_out(text.c_str(), text.size() + 1, json, capacity, bytes);
  });
}

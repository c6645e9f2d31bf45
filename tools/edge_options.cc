#include "tools/edge_options.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "tools/console.h"
#include "tools/keys.h"

namespace splitee::tools {

using runtime::Code;
using runtime::Result;
using runtime::Status;

namespace {

constexpr double kDefaultAlpha = 0.9;
constexpr std::size_t kMaxWindow = 256;
constexpr std::uint32_t kPingMs = 1'000;
constexpr const char* kLive = "live";
// With measured costs the cheapest way to an answer of at least --alpha is wanted: a layer's time
// outweighs what is left between the answers' confidences.
constexpr double kLiveMu = 10.0;

std::string footer() {
  std::string text = "Policies:\n";
  for (const policy::PolicyInfo& info : policy::policy_list()) {
    fmt::format_to(std::back_inserter(text), "  {:<12} {}\n", info.name, info.summary);
  }
  text += R"(
Input: UTF-8, a sample a line; or TSV whose header names the columns text, text2 (second sentence
of a pair) and label (class number or name). Other columns are ignored; there is no quoting. A row
with another number of fields or an unknown label is named and has no record, the rows after it have
theirs, and the exit status is 1. Empty lines count only where text is the only column.
Output: a JSON object per sample, in input order, with id, class, label, confidence, split (layer,
1-based; 0: the input itself is sent), exit_layer, route (exit, offload, fallback, final), cost (in
lambda), reward, edge_us, link_us, server_us (microseconds), bytes_sent, payload (what was sent:
input, f32, f16, i8, or null), and truth where labelled.
"fallback": meant for the server, finished here because the link failed. Every sample gets one.
SIGINT and SIGTERM end the run after the samples in progress; the state and the summary are written.
With --window N the policy learns from sample t right before sample t + N is planned: what it decides
depends on --seed, on N and on which offloads were answered, not on how long they took. Costs and
payloads chosen by measurement (live, auto) do depend on times.
Exit status: 0; 2 for wrong usage; 1 for an input, model, state or start-up error.)";
  return text;
}

void add_link_flags(CLI::App& app, EdgeOptions& options) {
  app.add_option("--server", options.servers,
                 "splitee-server to offload to, e.g. tcp://10.0.0.2:5555; may be repeated, the "
                 "first that works is used (default: none, nothing is offloaded)")
      ->type_name("ENDPOINT")
      ->check(endpoint_text())
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  app.add_option("--deadline-ms", options.deadline_ms,
                 "milliseconds for one offload; past it the sample is finished locally")
      ->type_name("N")
      ->check(number_within(1, 3'600'000))
      ->capture_default_str();
  app.add_option("--connect-ms", options.connect_ms,
                 "milliseconds to wait for a server at the start, before going on without")
      ->type_name("N")
      ->check(number_within(0, 3'600'000))
      ->capture_default_str();
  app.add_option("--window", options.window,
                 "samples in progress at a time: while some wait for a server the next ones run; 1 "
                 "waits for every answer")
      ->type_name("N")
      ->check(number_within(1, kMaxWindow))
      ->capture_default_str();
  app.add_option(
         "--payload", options.payload,
         "what an offload sends: activation (of the layer reached), input (token ids: few "
         "bytes, but the server runs every layer), or auto (what is expected to be answered "
         "first, from times measured); default: activation, auto with --costs live")
      ->type_name("WORD")
      ->check(CLI::IsMember({"activation", "input", "auto"}));
  app.add_option(
         "--activation", options.activation,
         "number format of the activations sent: f32, f16, i8, or auto (a smaller one where "
         "that saves a tenth of the offload's time); default: f32, auto with --costs live")
      ->type_name("TYPE")
      ->check(CLI::IsMember({"f32", "f16", "i8", "auto"}));
  CLI::Option* secret =
      app.add_option(
             "--secret-key", options.secret_key_path,
             "this edge's PREFIX.secret file of `splitee keygen`; encrypts the link (CURVE)")
          ->type_name("FILE")
          ->needs("--server");
  app.add_option("--server-key", options.server_key,
                 "the server's public key: 40 characters, or the server's PREFIX.public file")
      ->type_name("KEY")
      ->needs(secret);
  secret->needs("--server-key");
}

void add_policy_flags(CLI::App& app, EdgeOptions& options) {
  std::vector<std::string> names;
  for (const std::string_view name : policy::policy_names()) names.emplace_back(name);
  app.add_option("--policy", options.policy, "what decides per sample: " + join(names))
      ->type_name("NAME")
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  app.add_option(
         "--alpha", options.alpha,
         "confidence from which a sample exits, 0 to 1 (default: the model's own, else 0.9)")
      ->type_name("X")
      ->check(number_within(0, 1));
  app.add_option("--split", options.split,
                 "layer to split at, 1-based; only --policy fixed looks at it")
      ->type_name("K")
      ->check(number_within(1, 1e6));
  app.add_option("--exploration", options.exploration, "weight of UCB1's exploration term")
      ->type_name("C")
      ->check(non_negative_number())
      ->capture_default_str();
  add_cost_flags(app, options.costs);
  add_costs_file_flag(app, options.costs);
  app.get_option("--mu")->description(
      "weight of cost in reward = confidence - mu * cost (10 with --costs live)");
  app.get_option("--costs")->description(
      "cost file of `splitee profile --output`: shares of layer and exit in lambda; or the word "
      "live: layers, link and server as measured while running, a mean layer with its exit costing "
      "--lambda");
  add_choice<bool>(
      app, "--objective", options.energy,
      "what --costs live measures: latency, or energy (RAPL, or an INA2xx sensor): time "
      "spent waiting then counts by the power drawn meanwhile",
      {{"latency", false}, {"energy", true}});
  app.add_option("--energy-root", options.energy_root,
                 "folder under which the energy counters are looked for, as sys/class/powercap and "
                 "sys/class/hwmon (default: /)")
      ->type_name("DIR");
  add_seed_flag(app, options.seed, "seed of everything random in the policy");
  app.add_option("--state", options.state_path,
                 "file of the policy's state: loaded if it exists, saved every 1000 samples or 5 "
                 "seconds and at the end")
      ->type_name("FILE");
}

void add_input_output_flags(CLI::App& app, EdgeOptions& options) {
  app.add_option("--input", options.input, "samples; - is standard input")
      ->type_name("FILE")
      ->capture_default_str();
  add_input_format_flag(app, options.input_format);
  app.add_option("--output", options.output, "records; - is standard output")
      ->type_name("FILE")
      ->capture_default_str();
  app.add_flag("--exits", options.exits,
               "add every exit's probabilities (runs all layers, outside the times reported)");
  app.add_option("--summary-json", options.summary_path, "write the summary as JSON too")
      ->type_name("FILE");
  app.add_flag("--quiet", options.quiet, "no summary and no notices on standard error");
  app.add_flag("--progress", options.progress, "show progress on standard error");
  app.add_option(
         "--slowdown", options.slowdown,
         "makes layers and exits here take X times the least processor time seen, by waiting: "
         "for experiments with a slower device")
      ->type_name("X")
      ->check(number_within(1, 1e6))
      ->capture_default_str();
}

}  // namespace

std::optional<int> parse_edge_options(int argc, char** argv, EdgeOptions& options) {
  CLI::App app(
      "Classifies samples layer by layer and decides per sample where to answer: at an early exit "
      "here, or at a splitee-server from the split on.",
      "splitee-edge");
  add_version(app);
  add_model_flags(app, options.model, "threads that one sample's layers use");
  add_input_output_flags(app, options);
  add_link_flags(app, options);
  add_policy_flags(app, options);
  app.footer(footer());
  if (const std::optional<int> code = parse(app, argc, argv)) return code;
  if (options.policy == "fixed" && !options.split) {
    print_message("splitee-edge: --policy fixed needs --split K\n");
    return kExitUsage;
  }
  if (live_costs(options) && app.count("--mu") == 0) options.costs.mu = kLiveMu;
  // The others' states are sums of rewards, which hold under one set of costs.
  if (live_costs(options) && !options.state_path.empty() && options.policy != "adaptive" &&
      !options.policy.starts_with("factored")) {
    print_message("splitee-edge: --state with --costs live needs --policy adaptive or factored\n");
    return kExitUsage;
  }
  if (options.energy && !live_costs(options)) {
    print_message("splitee-edge: --objective energy needs --costs live\n");
    return kExitUsage;
  }
  return std::nullopt;
}

Result<policy::PolicyOptions> policy_options(const EdgeOptions& options,
                                             const runtime::ModelConfig& config) {
  policy::PolicyOptions result;
  result.layer_of = config.exit_layers;
  result.alpha = options.alpha.value_or(config.alpha > 0 ? config.alpha : kDefaultAlpha);
  if (!options.alpha) result.exit_alphas = config.exit_alphas;
  result.exploration = options.exploration;
  result.seed = options.seed;
  result.at_once_arm = live_costs(options) && !options.servers.empty();
  if (options.policy == "fixed") {
    const auto& layers = config.exit_layers;
    const auto found = std::find(layers.begin(), layers.end(), *options.split);
    if (found == layers.end()) {
      return Status(Code::kInvalidArgument,
                    fmt::format("--split {}: this model's exits are at layers {}", *options.split,
                                join(layers)));
    }
    result.fixed_arm = static_cast<std::size_t>(found - layers.begin());
  }
  CostFlags flags = options.costs;
  if (live_costs(options)) flags.costs_path.clear();
  Result<policy::CostModel> costs = cost_model(flags);
  if (!costs.ok()) return costs.status();
  result.costs = *costs;
  return result;
}

bool live_costs(const EdgeOptions& options) {
  return options.costs.costs_path == kLive;
}

std::size_t layers_always_run(const EdgeOptions& options) {
  if (options.exits || options.policy == "final") return runtime::kAllLayers;
  return options.policy == "fixed" ? options.split.value_or(1) : 1;
}

Result<EdgeSettings> edge_settings(const EdgeOptions& options) {
  EdgeSettings settings;
  settings.threads = options.model.threads;
  settings.deadline_us = static_cast<std::int64_t>(options.deadline_ms) * 1000;
  settings.window = options.window;
  settings.live_costs = live_costs(options);
  const std::string payload = options.payload.value_or(settings.live_costs ? "auto" : "activation");
  if (payload == "input") settings.payload.payload = Payload::kInput;
  if (payload == "auto") settings.payload.payload = Payload::kAuto;
  // Nothing for "auto".
  settings.payload.activation = transport::activation_dtype(
      options.activation.value_or(settings.live_costs ? "auto" : "f32"));
  settings.slowdown = options.slowdown;
  settings.exits = options.exits;
  settings.notices = !options.quiet;
  if (options.energy) {
    settings.energy = EnergyMeter::find(options.energy_root);
    if (!settings.energy) {
      return Status(Code::kIo,
                    "--objective energy: no RAPL counter and no INA2xx sensor can be read "
                    "(RAPL often by root only)");
    }
  }
  return settings;
}

Result<std::unique_ptr<transport::Client>> make_client(const EdgeOptions& options,
                                                       const runtime::Model& model) {
  if (options.servers.empty()) return std::unique_ptr<transport::Client>();
  transport::ClientOptions client;
  client.endpoints = options.servers;
  client.model_hash = model.hash();
  client.classes = model.config().classes;
  client.activation_dtype = transport::activation_dtype(options.activation.value_or("f32"))
                                .value_or(transport::Dtype::kF32);
  client.window = options.window;
  if (live_costs(options)) client.ping_ms = kPingMs;
  if (!options.secret_key_path.empty()) {
    Result<KeyPair> keys = read_secret_key(options.secret_key_path);
    if (!keys.ok()) return keys.status();
    Result<std::string> server_key = read_public_key(options.server_key);
    if (!server_key.ok()) return server_key.status();
    client.curve = {keys->public_key, keys->secret_key, *server_key};
  }
  return transport::Client::create(client);
}

}  // namespace splitee::tools

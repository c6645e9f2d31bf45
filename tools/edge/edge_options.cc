#include "tools/edge/edge_options.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "policy/model_options.h"
#include "tools/common/console.h"
#include "tools/common/keys.h"
#include "tools/common/policy_flags.h"

namespace splitee::tools {

namespace {

constexpr double kDefaultAlpha = 0.9;
constexpr std::size_t kMaxWindow = 256;
constexpr std::uint32_t kPingMs = 1'000;
constexpr const char* kLive = "live";
// With measured costs the cheapest way to an answer of at least --alpha is wanted: a layer's time
// outweighs what is left between the answers' confidences.
constexpr double kLiveMu = 10.0;

std::string footer() {
  std::string text = policy_table();
  text += R"(
Input: UTF-8, a sample a line; or TSV whose header names the columns text, text2 (second sentence
of a pair), label (class number or name; for the accuracy alone) and, with --feedback, feedback.
Other columns are ignored; there is no quoting. A model of images takes a TSV with a column path, or
a path a line, a folder of pictures, or a picture. A row with another number of fields, an unknown label or an image that cannot be
decoded is named and has no record, the rows after it have theirs, and the exit status is 1. Empty
lines count only where text is the only column.
Output: a JSON object per sample, in input order, with id, class, label, confidence, split (layer,
1-based; 0: the input itself is sent), arm (the same as a number of its exit), exit_layer, route
(exit, offload, fallback, final, audit), cost (in lambda), reward, edge_us, link_us, server_us
(microseconds), bytes_sent, payload (what was sent: input, f32, f16, i8, or null), audited (true
where it was run to the end to check the others; would_exit is then the layer that would have
answered, or null), and truth where labelled, and path where the input names files. With --drop-late
there is age_us, how long ago a frame was read when it was begun with, and a frame that is skipped
has id and dropped.
A model with one label has `value` in place of class, label, confidence and reward; one with labels
that do not exclude each other has `labels`, an object with a probability for each. Nothing of these
is a confidence: such models run to their last exit (--policy final).
"fallback": meant for the server, finished here because the link failed. Every sample gets one.
A line longer than 64 MiB is named and has no record either. Where the output cannot be written on (a
full disk, say) the run ends with status 1: the records written are whole, and the first sample that
has none is named.
SIGINT and SIGTERM end the run after the samples in progress, which servers then have 0.3 s left for;
the state and the summary are written. A second one ends it at once. SIGHUP: where --output is a file
it is opened anew (log rotation), else as SIGTERM; ignored under nohup.
Messages never hold the run up: those that standard error has no room for are left out.
With --http nothing is read: rows of requests are the samples, and their answers the records, which are
also written where --output is a file. "listening on URL" is printed once it serves; docs/http.md says
what. Samples of concurrent requests take turns; their answers come in the order of the samples.
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
  app.add_flag("--require-server", options.require_server,
               "fail at the start where no server takes this edge in within --connect-ms")
      ->needs("--server");
  app.add_option("--window", options.window,
                 "samples in progress at a time: while some wait for a server the next ones run; 1 "
                 "waits for every answer")
      ->type_name("N")
      ->check(number_within(1, kMaxWindow))
      ->capture_default_str();
  app.add_option(
         "--payload", options.payload,
         "what an offload sends: activation (of the layer reached), input (few "
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
                 "layer to split at, 1-based; for policies that take a given split")
      ->type_name("K")
      ->check(number_within(1, 1e6));
  add_policy_option_flags(app, options.policy_options);
  add_cost_flags(app, options.costs);
  add_costs_file_flag(app, options.costs);
  add_budget_unit_flag(app, options.costs);
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
                 "folder under which energy counters, temperatures and clocks are looked for, as "
                 "sys/class/powercap, sys/class/hwmon and sys/class/thermal (default: /)")
      ->type_name("DIR");
  add_seed_flag(app, options.seed, "seed of everything random in the policy");
}

// What a sample is run with, whatever it comes from.
void add_run_flags(CLI::App& app, EdgeOptions& options) {
  app.add_option("--max-tokens", options.max_tokens,
                 "cut texts to N tokens, [CLS] and [SEP] included (default: what the model takes)")
      ->type_name("N")
      ->check(number_within(3, 1e9));
  app.add_flag("--exits", options.exits,
               "add every exit's probabilities (runs all layers, outside the times reported)");
  app.add_option(
         "--slowdown", options.slowdown,
         "makes layers and exits here take X times the least processor time seen, by waiting: "
         "for experiments with a slower device")
      ->type_name("X")
      ->check(number_within(1, 1e6))
      ->capture_default_str();
  app.add_option("--state", options.state_path,
                 "file of the policy's state: loaded if it exists, saved every 1000 samples or 5 "
                 "seconds and at the end; one process at a time")
      ->type_name("FILE");
}

// WIDTHxHEIGHT.
[[maybe_unused]] std::optional<FrameSize> parse_frame(const std::string& text) {
  // A frame and its header are within what is decoded.
  constexpr std::size_t kMostSide = 4096, kMostFrameBytes = (std::size_t{15} << 20) - 64;
  const auto number = [](std::string_view digits) {
    std::size_t value = 0;
    const auto [stop, problem] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value);
    const bool whole = problem == std::errc() && stop == digits.data() + digits.size();
    return whole && value <= kMostSide ? value : std::size_t{0};
  };
  const std::size_t mark = text.find('x');
  if (mark == std::string::npos) return std::nullopt;
  const std::string_view whole = text;
  const FrameSize frame{number(whole.substr(0, mark)), number(whole.substr(mark + 1))};
  const bool fits =
      frame.width > 0 && frame.height > 0 && 3 * frame.width * frame.height < kMostFrameBytes;
  return fits ? std::optional(frame) : std::nullopt;
}

void add_frame_flags(CLI::App& app, EdgeOptions& options) {
#ifdef SPLITEE_NETWORK_IMAGES
  CLI::Option* frame =
      app.add_option_function<std::string>(
             "--frame",
             [&options](const std::string& text) {
               options.frame = *parse_frame(text);
               options.input_format = InputFormat::kFrames;
             },
             "the input is raw RGB frames of this size, a byte a colour, one after the other, as a "
             "camera's pipe gives them; up to 4096 either way and 15 MiB")
          ->type_name("WIDTHxHEIGHT")
          ->check(CLI::Validator(
              [](std::string& text) {
                return parse_frame(text) ? std::string() : text + " is no size of a frame";
              },
              ""))
          ->excludes("--input-format");
  app.add_flag(
         "--drop-late", options.drop_late,
         "read frames as they come, whatever the network does, and run the newest; those that "
         "it overtakes get a record "
         R"({"id": N, "dropped": true}))")
      ->needs(frame);
#else
  (void)app;
  (void)options;
#endif
}

void add_input_output_flags(CLI::App& app, EdgeOptions& options) {
  app.add_option("--input", options.input,
                 "samples; - is standard input; of images a folder or a picture, too")
      ->type_name("FILE")
      ->capture_default_str();
  add_input_format_flag(app, options.input_format);
  add_frame_flags(app, options);
  app.add_flag("--feedback", options.feedback,
               "let the policy learn from a column feedback (class number or name; may be empty): "
               "what the user knows to be true; a column label never reaches it");
  app.add_option("--output", options.output, "records; - is standard output")
      ->type_name("FILE")
      ->capture_default_str();
  app.add_flag("--append", options.append, "keep what --output holds, and write behind it");
  app.add_option("--summary-json", options.summary_path, "write the summary as JSON too")
      ->type_name("FILE");
  add_log_format_flag(app);
  app.add_flag("--quiet", options.quiet, "no summary and no notices on standard error");
  app.add_flag(
      "--progress", options.progress,
      "show progress on standard error: by itself only where that is a terminal, --input a "
      "file and --output another place");
}

// What is wrong with the unit of a budget, beside what cost_model() finds.
std::optional<std::string> budget_problem(const EdgeOptions& options) {
  const BudgetUnit unit = options.costs.budget_unit;
  if (unit == BudgetUnit::kBytes && options.servers.empty()) {
    return "--budget-unit bytes: nothing is sent without --server";
  }
  if (unit == BudgetUnit::kMilliseconds && options.energy) {
    return "--budget-unit ms: the costs are energy; leave out --objective energy, or take mJ";
  }
  return std::nullopt;
}

// What the flags say together: kInvalidArgument where that cannot be.
Status check_together(const CLI::App& app, EdgeOptions& options) {
  const auto refuse = [](std::string why) {
    return Status(Code::kInvalidArgument, std::move(why));
  };
  options.policy_given = app.count("--policy") > 0;
  const policy::PolicyInfo& chosen = *policy::find_policy(options.policy);
  if (takes_split(options.policy) && !options.split) {
    return refuse(fmt::format("--policy {} needs --split K", options.policy));
  }
  if (live_costs(options) && app.count("--mu") == 0) options.costs.mu = kLiveMu;
  // The others' states are sums of rewards, which hold under one set of costs.
  if (live_costs(options) && !options.state_path.empty() && !chosen.state_fits_any_costs) {
    std::vector<std::string_view> fitting;
    for (const policy::PolicyInfo& info : policy::policy_list()) {
      if (info.state_fits_any_costs) fitting.push_back(info.name);
    }
    return refuse(
        fmt::format("--state with --costs live needs --policy {}", fmt::join(fitting, " or ")));
  }
  if (options.energy && !live_costs(options)) {
    return refuse("--objective energy needs --costs live");
  }
  if (std::optional<std::string> problem = budget_problem(options)) {
    return refuse(std::move(*problem));
  }
  return {};
}

// Whether the costs measured while running are in the unit of the budget.
bool measures_budget(const EdgeOptions& options) {
  if (!live_costs(options)) return false;
  return options.costs.budget_unit ==
         (options.energy ? BudgetUnit::kMillijoules : BudgetUnit::kMilliseconds);
}

}  // namespace

std::optional<int> parse_edge_options(int argc, char** argv, EdgeOptions& options) {
  CLI::App app(
      "Classifies samples layer by layer and decides per sample where to answer: at an early exit "
      "here, or at a splitee-server from the split on.",
      "splitee-edge");
  add_version(app);
  add_model_flags(app, options.model, "threads that one sample's layers use");
  app.add_flag("--check-model", options.model.check_whole,
               "check the whole model file at start; otherwise, where it has sums of its blocks, "
               "each part when it is first used");
  add_input_output_flags(app, options);
  add_run_flags(app, options);
  add_link_flags(app, options);
  add_policy_flags(app, options);
  add_http_flags(app, options.http, /*insecure_flag=*/true);
  app.get_option("--http")->excludes(app.get_option("--input"));
  app.footer(footer());
  if (const std::optional<int> code = parse(app, argc, argv)) return code;
  if (const Status status = check_together(app, options); !status.ok()) {
    print_message(fmt::format("splitee-edge: {}\n", status.message()), Level::kError);
    return kExitUsage;
  }
  const std::string unread = unread_options(app, options.policy);
  if (!unread.empty() && !options.quiet) print_message("splitee-edge: " + unread + "\n");
  return std::nullopt;
}

Status parse_edge_words(const std::vector<std::string>& words, unsigned groups,
                        EdgeOptions& options) {
  CLI::App app("", "options");
  app.set_help_flag();
  if ((groups & kPolicyWords) != 0) add_policy_flags(app, options);
  if ((groups & kLinkWords) != 0) add_link_flags(app, options);
  if ((groups & kRunWords) != 0) {
    add_machine_flags(app, options.model, "threads that one sample's layers use");
    app.remove_option(app.get_option("--target"));  // the model's
    add_run_flags(app, options);
  }
  if (Status status = parse_words(app, words); !status.ok()) return status;
  return (groups & kPolicyWords) != 0 ? check_together(app, options) : Status();
}

Status choose_policy(const runtime::Network& network, EdgeOptions& options) {
  const Status status = check_confidence(network);
  if (status.ok()) return {};
  const auto last = std::ranges::find_if(policy::policy_list(), [](const policy::PolicyInfo& info) {
    return info.looks == policy::Looks::kAtLast && !info.sends;
  });
  if (!options.policy_given) options.policy = last->name;
  if (options.policy == last->name) return {};
  return Status(status.code(), fmt::format("{}: --policy {} needs one; only {} does not",
                                           status.message(), options.policy, last->name));
}

Result<policy::PolicyOptions> policy_options(const EdgeOptions& options,
                                             const runtime::Network& network) {
  const runtime::NetworkInfo& info = network.info();
  policy::PolicyOptions result = options.policy_options;
  result.alpha = options.alpha.value_or(kDefaultAlpha);
  policy::take_from_model(info, !options.alpha, result);
  result.model_hash = network.answers_hash();
  result.seed = options.seed;
  result.at_once_arm = live_costs(options) && !options.servers.empty();
  if (takes_split(options.policy)) {
    const Result<std::size_t> arm = arm_at(options.split, info.exit_layers, "this model's");
    if (!arm.ok()) return arm.status();
    result.fixed_arm = *arm;
  }
  CostFlags flags = options.costs;
  if (live_costs(options)) flags.costs_path.clear();
  if (measures_budget(options)) flags.budget_unit = BudgetUnit::kLambda;
  // The edge's own bound on what it sends; what is sought is the least cost within it.
  if (flags.budget_unit == BudgetUnit::kBytes) {
    result.budget = 0.0;
    result.objective = policy::Objective::kDisagreement;
  }
  Result<policy::CostModel> costs = cost_model(flags, &network);
  if (!costs.ok()) return costs.status();
  result.costs = *costs;
  return result;
}

bool live_costs(const EdgeOptions& options) {
  return options.costs.costs_path == kLive;
}

std::size_t layers_always_run(const EdgeOptions& options) {
  const policy::Looks looks = policy::find_policy(options.policy)->looks;
  if (options.exits || looks == policy::Looks::kAtLast) return runtime::kAllLayers;
  return looks == policy::Looks::kAtGivenSplit ? options.split.value_or(1) : 1;
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
  settings.budget_as_measured = measures_budget(options);
  if (options.costs.budget_unit == BudgetUnit::kBytes) {
    settings.most_bytes = options.policy_options.budget;
  }
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
                                                       const runtime::Network& network) {
  if (options.servers.empty()) return std::unique_ptr<transport::Client>();
  transport::ClientOptions client;
  client.endpoints = options.servers;
  client.model_hash = network.hash();
  client.classes = network.info().classes();
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

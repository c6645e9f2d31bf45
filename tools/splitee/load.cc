#include <algorithm>
#include <charconv>
#include <memory>
#include <random>

#include <nlohmann/json.hpp>

#include "runtime/network.h"
#include "tools/common/console.h"
#include "tools/common/flags.h"
#include "tools/common/keys.h"
#include "tools/common/progress.h"
#include "tools/common/sample_reader.h"
#include "tools/common/stop_signal.h"
#include "tools/splitee/commands.h"
#include "tools/splitee/load_run.h"

namespace splitee::tools {
namespace {

using runtime::Prepared;

constexpr std::size_t kMaxSamples = 256;              // kept encoded
constexpr std::size_t kShortest = 16, kLongest = 64;  // random inputs

struct Flags {
  ModelFlags model;
  std::vector<std::string> servers;
  std::vector<double> rates{100};
  LoadPlan plan;
  std::vector<double> deadlines_ms{200};
  double told_deadline_ms = 0, connect_ms = 10'000;
  std::string arrivals;
  std::size_t layer = 0;
  std::string seq;
  std::string input;
  InputFormat format = InputFormat::kOfModel;
  transport::Dtype activation = transport::Dtype::kF32;
  std::string secret_key, server_key;
  bool json = false;
};

struct Range {
  std::size_t low = 0, high = 0;
};

Result<Range> parse_seq(const Flags& flags, const runtime::NetworkInfo& info) {
  const std::string& text = flags.seq;
  const std::size_t most = info.max_length;
  Range range{std::min(kShortest, most), std::min(kLongest, most)};
  if (text.empty()) return range;
  const char* end = text.data() + text.size();
  const auto [dash, first] = std::from_chars(text.data(), end, range.low);
  range.high = range.low;
  bool good = first == std::errc();
  if (good && dash != end) {
    const auto [stop, second] = std::from_chars(dash + 1, end, range.high);
    good = *dash == '-' && second == std::errc() && stop == end;
  }
  if (good && range.low >= 1 && range.low <= range.high && range.high <= most) return range;
  return Status(Code::kInvalidArgument, "--seq " + text + ": not N or MIN-MAX " + info.unit +
                                            " within 1 to " + std::to_string(most));
}

// Inputs of random contents and lengths.
Result<std::vector<Prepared>> make_inputs(const Flags& flags, const runtime::Network& network) {
  Result<Range> range = parse_seq(flags, network.info());
  if (!range.ok()) return range.status();
  std::mt19937_64 random(flags.plan.seed);
  std::vector<Prepared> inputs;
  for (std::size_t i = 0; i < kMaxSamples; ++i) {
    const std::size_t length = range->low + random() % (range->high - range->low + 1);
    inputs.push_back(network.random_input(length, random()));
  }
  return inputs;
}

Result<std::vector<Prepared>> read_inputs(const Flags& flags, const runtime::Network& network) {
  Result<LineReader> lines = LineReader::open(flags.input);
  if (!lines.ok()) return lines.status();
  Result<SampleReader> reader = SampleReader::open(std::move(*lines), flags.format, network.info());
  if (!reader.ok()) return reader.status();
  std::vector<Prepared> inputs;
  for (Sample sample; inputs.size() < kMaxSamples;) {
    Result<bool> more = reader->next(sample);
    if (!more.ok()) return more.status();
    if (!*more) break;
    Result<Prepared> input = network.prepare(sample.input);
    if (!input.ok()) return input.status();
    std::vector<float> decoded;
    if (Status status = network.decode(input->view(), decoded); !status.ok()) {
      return Status(status.code(), sample.input.name + ": " + status.message());
    }
    inputs.push_back(std::move(*input));
  }
  if (inputs.empty()) {
    const std::string name = flags.input == "-" ? "standard input" : flags.input;
    return Status(Code::kCorrupt, name + ": holds no sample");
  }
  return inputs;
}

// Encodes the inputs themselves, or their activation at the layer asked for.
Status add_samples(const Flags& flags, const runtime::Network& network, transport::Swarm& swarm) {
  Result<std::vector<Prepared>> inputs =
      flags.input.empty() ? make_inputs(flags, network) : read_inputs(flags, network);
  if (!inputs.ok()) return inputs.status();
  const std::unique_ptr<runtime::Engine> engine = network.make_engine();
  for (const Prepared& input : *inputs) {
    transport::OffloadRequest request;
    request.layer = flags.layer;
    request.input_kind = network.info().input;
    request.input = input.view();
    if (flags.layer > 0) {
      if (Status status = engine->begin(input.view()); !status.ok()) return status;
      if (Status status = engine->run_to(flags.layer); !status.ok()) return status;
      request.activation = engine->activation();
      request.shape = network.info().shape(flags.layer, input.length);
    }
    Result<std::size_t> added = swarm.add_sample(request);
    if (!added.ok()) return added.status();
  }
  return {};
}

Result<std::unique_ptr<transport::Swarm>> make_swarm(const Flags& flags,
                                                     const runtime::Network& network) {
  transport::SwarmOptions options;
  options.endpoints = flags.servers;
  options.connections = flags.plan.connections;
  options.model_hash = network.hash();
  options.activation_dtype = flags.activation;
  if (!flags.secret_key.empty()) {
    Result<KeyPair> own = read_secret_key(flags.secret_key);
    if (!own.ok()) return own.status();
    Result<std::string> server = read_public_key(flags.server_key);
    if (!server.ok()) return server.status();
    options.curve = {own->public_key, own->secret_key, *server};
  }
  return transport::Swarm::create(options);
}

nlohmann::ordered_json quantiles_ms(const LatencyHistogram& histogram) {
  nlohmann::ordered_json json;
  for (const auto& [name, q] :
       {std::pair("p50", 0.5), std::pair("p90", 0.9), std::pair("p99", 0.99),
        std::pair("p999", 0.999), std::pair("max", 1.0)}) {
    json[name] = histogram.quantile(q) / 1e3;
  }
  return json;
}

nlohmann::ordered_json deadlines_to_json(const LoadResult& result) {
  auto all = nlohmann::ordered_json::array();
  for (const DeadlineResult& of : result.by_deadline) {
    nlohmann::ordered_json json;
    json["deadline_ms"] = static_cast<double>(of.deadline_us) / 1e3;
    json["intended"] = of.intended;
    json["good"] = of.good;
    json["answered_ms"] = quantiles_ms(of.answered_us);
    all.push_back(std::move(json));
  }
  return all;
}

nlohmann::ordered_json to_json(const LoadPlan& plan, const LoadResult& result) {
  nlohmann::ordered_json json;
  json["rate"] = plan.rate;
  json["connections"] = plan.connections;
  json["seconds"] = result.seconds;
  if (plan.deadlines_us.size() == 1) {
    json["deadline_ms"] = static_cast<double>(plan.deadlines_us.front()) / 1e3;
  } else {
    json["deadlines"] = deadlines_to_json(result);
  }
  if (plan.told_deadline_us != 0) {
    json["told_deadline_ms"] = static_cast<double>(plan.told_deadline_us) / 1e3;
  }
  json["intended"] = result.intended;
  json["good"] = result.good;
  json["late"] = result.late;
  json["shed"] = result.sheds();
  json["lost"] = result.lost;
  json["unsent"] = result.unsent;
  json["goodput"] = static_cast<double>(result.good) / result.seconds;
  json["fairness"] = result.fairness();
  json["answered_ms"] = quantiles_ms(result.answered_us);
  json["shed_ms"] = quantiles_ms(result.shed_us);
  json["server_ms"] = quantiles_ms(result.server_us);
  json["lag_ms"] = quantiles_ms(result.lag_us);
  if (plan.flood != 1) {
    json["flood_ms"] = quantiles_ms(result.flood_us);
    json["others_ms"] = quantiles_ms(result.others_us);
  }
  json["refused"] = result.refused;
  return json;
}

std::string to_text(const LoadPlan& plan, const LoadResult& result) {
  const auto ms = [](const LatencyHistogram& histogram, double q) {
    return histogram.quantile(q) / 1e3;
  };
  std::string text = fmt::format(
      "{:>9.0f} {:>9.1f} {:>8} {:>8} {:>8} {:>6} {:>9.2f} {:>9.2f} {:>9.2f} {:>9.2f} {:>8.3f}\n",
      plan.rate, static_cast<double>(result.good) / result.seconds, result.good, result.late,
      result.sheds(), result.lost + result.unsent, ms(result.answered_us, 0.5),
      ms(result.answered_us, 0.99), ms(result.shed_us, 0.5), ms(result.shed_us, 0.99),
      result.fairness());
  if (plan.flood != 1) {
    text += fmt::format(
        "          connection 0: p50 {:.2f} p99 {:.2f} ms; others: p50 {:.2f} p99 "
        "{:.2f} ms\n",
        ms(result.flood_us, 0.5), ms(result.flood_us, 0.99), ms(result.others_us, 0.5),
        ms(result.others_us, 0.99));
  }
  if (plan.deadlines_us.size() > 1) {
    for (const DeadlineResult& of : result.by_deadline) {
      text += fmt::format("          within {:g} ms: {} of {}; p50 {:.2f} p99 {:.2f} ms\n",
                          static_cast<double>(of.deadline_us) / 1e3, of.good, of.intended,
                          ms(of.answered_us, 0.5), ms(of.answered_us, 0.99));
    }
  }
  for (const auto& [reason, count] : result.refused) {
    text += fmt::format("          {:>8} {}\n", count, reason);
  }
  return text;
}

constexpr const char* kTableHead =
    "   rate/s goodput/s     good     late     shed   lost  p50 (ms)  p99 (ms)  shed p50  shed p99 "
    "fairness\n";

std::uint64_t to_us(double ms) {
  return static_cast<std::uint64_t>(ms * 1e3);
}

LoadResult watched_load(transport::Swarm& swarm, LoadPlan& plan, StopSignal& stop) {
  Progress progress(Progress::Shown::kIfWatched, "requests a second");
  plan.go_on = [&](std::int64_t passed_us, std::int64_t all_us) {
    progress.update(static_cast<std::uint64_t>(std::max<std::int64_t>(passed_us, 0)),
                    static_cast<std::uint64_t>(all_us), static_cast<std::uint64_t>(plan.rate));
    return !stop.received();
  };
  LoadResult result = run_load(swarm, plan);
  progress.finish();
  return result;
}

Status load(Flags& flags) {
  Result<std::shared_ptr<const runtime::Network>> network = open_model(flags.model);
  if (!network.ok()) return network.status();
  if (flags.layer >= (*network)->info().layers()) {
    return Status(Code::kInvalidArgument, "--layer " + std::to_string(flags.layer) +
                                              ": no layer of the model is left after this one");
  }
  Result<std::unique_ptr<transport::Swarm>> swarm = make_swarm(flags, **network);
  if (!swarm.ok()) return swarm.status();
  if (Status status = add_samples(flags, **network, **swarm); !status.ok()) return status;
  const auto connect_us = static_cast<std::int64_t>(flags.connect_ms * 1e3);
  if (Status status = (*swarm)->greet(connect_us); !status.ok()) return status;
  flags.plan.samples = (*swarm)->samples();
  flags.plan.poisson = flags.arrivals != "fixed";
  flags.plan.deadlines_us.clear();
  for (const double ms : flags.deadlines_ms) flags.plan.deadlines_us.push_back(to_us(ms));
  flags.plan.told_deadline_us = to_us(flags.told_deadline_ms);
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  if (!flags.json) {
    if (Status status = print_output(kTableHead); !status.ok()) return status;
  }
  StopSignal stop(StopSignal::Hangup::kStops);
  Status ended;
  for (std::size_t i = 0; i < flags.rates.size() && ended.ok(); ++i) {
    const double rate = flags.plan.rate = flags.rates[i];
    const LoadResult result = watched_load(**swarm, flags.plan, stop);
    if (result.stopped) {
      ended = Status(Code::kIo, fmt::format("stopped by a signal {:.1f} s into the measured time "
                                            "of rate {:g}",
                                            result.seconds, rate));
    }
    if (flags.json) {
      all.push_back(to_json(flags.plan, result));
    } else if (Status status = print_output(to_text(flags.plan, result)); !status.ok()) {
      return status;
    }
  }
  if (flags.json) {
    if (Status status = print_output(all.dump(2) + "\n"); !status.ok()) return status;
  }
  return ended;
}

void add_plan_flags(CLI::App& app, Flags& flags) {
  app.add_option("--rate", flags.rates,
                 "requests a second over all connections; several, with commas, are run one after "
                 "the other")
      ->type_name("R")
      ->delimiter(',')
      ->check(positive_number())
      ->capture_default_str();
  app.add_option("--seconds", flags.plan.seconds, "measured time of each rate")
      ->type_name("S")
      ->check(positive_number())
      ->capture_default_str();
  app.add_option("--warm-up", flags.plan.warm_up_seconds,
                 "seconds before, at the same rate, that do not count")
      ->type_name("S")
      ->check(non_negative_number())
      ->capture_default_str();
  app.add_option("--arrivals", flags.arrivals,
                 "times between requests: exponentially distributed, or all the same")
      ->type_name("WORD")
      ->check(CLI::IsMember({"poisson", "fixed"}))
      ->default_str("poisson");
  app.add_option("--connections", flags.plan.connections,
                 "edges, a connection and a session each; requests go to one at random")
      ->type_name("N")
      ->check(number_within(1, 20'000))
      ->capture_default_str();
  app.add_option("--flood", flags.plan.flood,
                 "the first connection sends X times as much as each other, and is reported apart")
      ->type_name("X")
      ->check(positive_number())
      ->capture_default_str();
  app.add_option("--deadline-ms", flags.deadlines_ms,
                 "milliseconds for every request; an answer after them does not count. Of several, "
                 "with commas, a request has one at random")
      ->type_name("MS")
      ->delimiter(',')
      ->check(number_within(0.001, 3'600'000))
      ->capture_default_str();
  app.add_option("--told-deadline-ms", flags.told_deadline_ms,
                 "what servers are told in place of --deadline-ms; a long one makes them answer in "
                 "the order of arrival (default: the same)")
      ->type_name("MS")
      ->check(number_within(0.001, 3'600'000));
  add_seed_flag(app, flags.plan.seed, "of arrivals, choice of connections and random inputs");
}

void add_sample_flags(CLI::App& app, Flags& flags) {
  app.add_option("--layer", flags.layer,
                 "layer whose activation is sent, computed beforehand; 0 sends the input")
      ->type_name("K")
      ->check(number_within(0, 1e6))
      ->capture_default_str();
  app.add_option(
         "--seq", flags.seq,
         "length of the random inputs, at random from MIN to MAX, in word pieces of a text; "
         "a row of numbers has 1 (default: 16-64, or what the model takes)")
      ->type_name("MIN-MAX");
  app.add_option("--input", flags.input,
                 fmt::format("samples to send (the first {}) in place of random inputs; - is "
                             "standard input",
                             kMaxSamples))
      ->type_name("FILE");
  add_input_format_flag(app, flags.format);
  add_choice<transport::Dtype>(app, "--activation", flags.activation,
                               "how activations are sent, with --layer",
                               {{"f32", transport::Dtype::kF32},
                                {"f16", transport::Dtype::kF16},
                                {"i8", transport::Dtype::kI8}});
}

}  // namespace

void add_load(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "load", "Loads servers with many edges at a given rate, and measures their answers.");
  const auto flags = std::make_shared<Flags>();
  add_model_flags(*command, flags->model, "not used: activations are computed by one thread");
  command->add_option("--server", flags->servers, "a server, e.g. tcp://10.0.0.2:5555; repeatable")
      ->type_name("ENDPOINT")
      ->check(endpoint_text())
      ->required();
  add_plan_flags(*command, *flags);
  add_sample_flags(*command, *flags);
  command
      ->add_option("--connect-ms", flags->connect_ms,
                   "milliseconds to connect and be welcomed, all together")
      ->type_name("MS")
      ->check(positive_number())
      ->capture_default_str();
  CLI::Option* secret = command->add_option("--secret-key", flags->secret_key,
                                            "PREFIX.secret file of all connections (CURVE)");
  CLI::Option* server_key = command->add_option("--server-key", flags->server_key,
                                                "the servers' public key, or its file");
  secret->type_name("FILE")->needs(server_key);
  server_key->type_name("KEY")->needs(secret);
  command->add_flag("--json", flags->json, "print JSON: an array with an object for each rate");
  command->footer(
      "\nRequests leave at times drawn beforehand, whether or not earlier ones were answered, and\n"
      "latency counts from the time a request should have left. goodput counts answers within the\n"
      "deadline; shed are refusals, by reason below; lost were never answered. fairness is Jain's\n"
      "index of the connections' goodput. SIGINT, SIGTERM and SIGHUP end the run; the figures are\n"
      "those of the time so far, and the exit status is 1.");
  command->callback([flags, &exit_code] { exit_code = finish("splitee load", load(*flags)); });
}

}  // namespace splitee::tools

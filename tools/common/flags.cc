#include "tools/common/flags.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <sstream>

#include <fmt/format.h>

#include "kernels/kernels.h"
#include "tools/common/console.h"
#include "tools/common/costs.h"
#include "tools/common/description.h"
#include "tools/common/odd_words.h"
#include "tools/common/unknown_words.h"
#include "tools/common/version.h"
#include "transport/zmq/endpoint.h"

namespace splitee::tools {

std::optional<int> parse(CLI::App& app, int argc, char** argv) {
  if (const auto odd = odd_word(app, {argv + std::min(argc, 1), argv + argc})) {
    print_last_message(*odd + "\nRun with --help for the flags.\n", Level::kError);
    return kExitUsage;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
      // --help and --version.
      std::ostringstream out, none;
      const int code = app.exit(error, out, none);
      const Status printed = print_output(out.str());
      return printed.ok() ? code : fail(app.get_name(), printed);
    }
    const std::string message =
        unknown_word(app).value_or(fmt::format("{}: {}", app.get_name(), error.what()));
    print_last_message(message + "\nRun with --help for the flags.\n", Level::kError);
    return kExitUsage;
  }
  return std::nullopt;
}

Status parse_words(CLI::App& app, const std::vector<std::string>& words) {
  std::vector<std::string> flags;
  for (const std::string& word : words) flags.push_back("--" + word);
  if (auto odd = odd_word(app, flags)) return Status(Code::kInvalidArgument, std::move(*odd));
  std::vector<const char*> arguments = {""};
  for (const std::string& flag : flags) arguments.push_back(flag.c_str());
  try {
    app.parse(static_cast<int>(arguments.size()), arguments.data());
  } catch (const CLI::ParseError& error) {
    return Status(Code::kInvalidArgument, unknown_word(app).value_or(error.what()));
  }
  return {};
}

void add_version(CLI::App& app) {
  app.set_version_flag("--version", [&app] { return version_text(app.get_name()); });
  app.add_flag_callback("--describe", [&app] { throw CLI::CallForVersion(describe(app), kExitOk); })
      ->group("");
}

void add_log_format_flag(CLI::App& app) {
  app.add_option_function<std::string>(
         "--log-format",
         [](const std::string& word) {
           set_log_format(word == "json"   ? LogFormat::kJson
                          : word == "text" ? LogFormat::kText
                                           : LogFormat::kPlain);
         },
         "messages on standard error: as they are (plain), lines with time (UTC) and level (text), "
         "or a JSON object each with time, level, program and message (json)")
      ->type_name("WORD")
      ->check(CLI::IsMember({"plain", "text", "json"}))
      ->default_str("plain");
}

namespace {

// Far beyond any use, near enough to 1 that products and sums of squares of them stay finite.
constexpr double kLeastAmount = 1e-12, kMostAmount = 1e12;

// The number, or NaN where the text is not one as a whole. Digits behind a 0 are octal to CLI11
// where the number is a whole one, and to nobody else.
double parse_number(const std::string& text) {
  const bool digits = text.find_first_not_of("0123456789") == std::string::npos;
  if (digits && text.size() > 1 && text.front() == '0') {
    return std::numeric_limits<double>::quiet_NaN();
  }
  double value = std::numeric_limits<double>::quiet_NaN();
  if (!CLI::detail::lexical_cast(text, value)) return std::numeric_limits<double>::quiet_NaN();
  return value;
}

}  // namespace

CLI::Validator number_within(double low, double high) {
  return CLI::Validator(
      [low, high](std::string& text) {
        const double value = parse_number(text);
        if (value >= low && value <= high) return std::string();
        return fmt::format("{} is not a number from {} to {}", text, low, high);
      },
      fmt::format("[{} .. {}]", low, high));
}

CLI::Validator endpoint_text() {
  return CLI::Validator([](std::string& text) { return transport::check_endpoint(text).message(); },
                        "");
}

CLI::Validator bind_endpoint_text() {
  return CLI::Validator(
      [](std::string& text) { return transport::check_bind_endpoint(text).message(); }, "");
}

CLI::Validator positive_number() {
  return CLI::Validator(
      [](std::string& text) {
        const double value = parse_number(text);
        if (value >= kLeastAmount && value <= kMostAmount) return std::string();
        return fmt::format("{} is not a number from {} to {}", text, kLeastAmount, kMostAmount);
      },
      "[> 0]");
}

CLI::Validator non_negative_number() {
  return CLI::Validator(
      [](std::string& text) {
        const double value = parse_number(text);
        if (value >= 0 && value <= kMostAmount) return std::string();
        return fmt::format("{} is not a number from 0 to {}", text, kMostAmount);
      },
      "[>= 0]");
}

void add_seed_flag(CLI::App& app, std::uint64_t& seed, const std::string& help) {
  const CLI::Validator whole_number(
      [](std::string& text) {
        std::uint64_t value = 0;
        const char* end = text.data() + text.size();
        const auto [stop, problem] = std::from_chars(text.data(), end, value);
        if (problem == std::errc() && stop == end) return std::string();
        return fmt::format("{} is not a whole number from 0 to {}", text,
                           std::numeric_limits<std::uint64_t>::max());
      },
      "");
  app.add_option("--seed", seed, help)->type_name("N")->check(whole_number)->capture_default_str();
}

void add_model_flags(CLI::App& app, ModelFlags& flags, const std::string& threads_help) {
  app.add_option("--model", flags.path, "model file (GGUF)")->required()->type_name("FILE");
  add_machine_flags(app, flags, threads_help);
}

void add_machine_flags(CLI::App& app, ModelFlags& flags, const std::string& threads_help) {
  std::vector<std::string> targets;
  for (const kernels::Kernels* kernels : kernels::compiled_targets()) {
    targets.emplace_back(kernels->target);
  }
  app.add_option(
         "--target", flags.target,
         "kernel target to force: " + join(targets) +
             " (default: $SPLITEE_TARGET, else the best that this CPU has; avx512amx was never "
             "run on its hardware, and is chosen by name alone)")
      ->type_name("NAME");
  app.add_option("--threads", flags.threads, threads_help)
      ->type_name("N")
      ->check(number_within(1, 256))
      ->capture_default_str();
}

void add_input_format_flag(CLI::App& app, InputFormat& format) {
  add_choice<InputFormat>(app, "--input-format", format,
                          "how the input is laid out: text a sample per line (text) or in named "
                          "columns (tsv); numbers in named columns, CSV or TSV (numbers), or raw, "
                          "little-endian (float32); images by their paths, a file each, one a line "
                          "or in a column path beside label, tabs between them, relative to the "
                          "input's folder, or the input is a folder of pictures, whose folders "
                          "are the labels where they are called as classes are (images). Unless "
                          "text is stated, a first line that names "
                          "columns is refused",
                          {{"text", InputFormat::kLines},
                           {"tsv", InputFormat::kTsv},
                           {"numbers", InputFormat::kNumbers},
                           {"float32", InputFormat::kFloats},
                           {"images", InputFormat::kImages}})
      ->default_str("text; numbers or images where the model takes them");
}

void add_sample_flags(CLI::App& app, std::string& input, InputFormat& format) {
  app.add_option("--input", input, "samples, as splitee-edge reads them; - is standard input")
      ->type_name("FILE")
      ->capture_default_str();
  add_input_format_flag(app, format);
}

Result<std::shared_ptr<const runtime::Network>> open_model(const ModelFlags& flags,
                                                           const runtime::ModelOptions& options) {
  runtime::ModelOptions all = options;
  all.check_whole = options.check_whole || flags.check_whole;
  const std::string name =
      flags.target.empty() ? std::string(kernels::target_from_environment()) : flags.target;
  const kernels::Kernels* kernels = kernels::find_target(name);
  if (kernels == nullptr) {
    return Status(Code::kInvalidArgument,
                  fmt::format("{}: kernel target '{}' is unknown, or this CPU lacks it",
                              flags.target.empty() ? "SPLITEE_TARGET" : "--target", name));
  }
  Result<std::shared_ptr<const runtime::Network>> network =
      runtime::open_network(flags.path, *kernels, all);
  if (!network.ok()) return not_usage(network.status());
  return network;
}

Status check_confidence(const runtime::Network& network) {
  const runtime::Output output = network.info().output;
  if (output == runtime::Output::kClasses) return {};
  return Status(Code::kUnsupported,
                fmt::format("{}: answers with {}, which has no confidence", network.path(),
                            output == runtime::Output::kValue ? "a value" : "several labels"));
}

void add_cost_flags(CLI::App& app, CostFlags& flags) {
  app.add_option("--lambda", flags.lambda, "cost of one layer with its exit, in units of reward")
      ->type_name("X")
      ->check(positive_number())
      ->capture_default_str();
  app.add_option("--lambda1", flags.lambda1, "part of lambda for the layer (default: lambda)")
      ->type_name("X")
      ->check(non_negative_number());
  app.add_option("--lambda2", flags.lambda2,
                 "part of lambda for evaluating one exit (default: lambda - lambda1)")
      ->type_name("X")
      ->check(non_negative_number());
  app.add_option("--offload-cost", flags.offload, "cost of one offload, in the unit of --lambda")
      ->type_name("X")
      ->check(non_negative_number())
      ->capture_default_str();
  app.add_option("--mu", flags.mu, "weight of cost in reward = confidence - mu * cost")
      ->type_name("X")
      ->check(non_negative_number())
      ->capture_default_str();
}

void add_costs_file_flag(CLI::App& app, CostFlags& flags) {
  app.add_option("--costs", flags.costs_path,
                 "cost file of `splitee profile --output`: shares of layer and exit in lambda")
      ->type_name("FILE")
      ->excludes("--lambda1")
      ->excludes("--lambda2");
}

void add_budget_unit_flag(CLI::App& app, CostFlags& flags) {
  add_choice<BudgetUnit>(app, "--budget-unit", flags.budget_unit,
                         "unit of --budget, a sample's mean: lambda; ms (needs --costs); mJ (needs "
                         "--costs live --objective energy); bytes sent to servers, which "
                         "--max-disagreement then goes with",
                         {{"lambda", BudgetUnit::kLambda},
                          {"ms", BudgetUnit::kMilliseconds},
                          {"bytes", BudgetUnit::kBytes},
                          {"mJ", BudgetUnit::kMillijoules}})
      ->needs("--budget");
}

Result<policy::CostModel> cost_model(const CostFlags& flags, const runtime::Network* network,
                                     std::size_t exits) {
  policy::CostModel model;
  if (flags.budget_unit == BudgetUnit::kMilliseconds && flags.costs_path.empty()) {
    return Status(Code::kInvalidArgument,
                  "--budget-unit ms: how long a layer takes is not known without --costs");
  }
  if (flags.budget_unit == BudgetUnit::kMillijoules) {
    return Status(Code::kInvalidArgument,
                  "--budget-unit mJ: the energy of a layer is not known without --costs live "
                  "--objective energy");
  }
  model.offload = flags.offload;
  model.mu = flags.mu;
  if (!flags.costs_path.empty()) {
    Result<CostFile> file = read_cost_file(flags.costs_path);
    if (!file.ok()) return file.status();
    const Status fits = network != nullptr ? check_costs_of(flags.costs_path, *file, *network)
                                           : check_costs_of(flags.costs_path, *file, exits);
    if (!fits.ok()) return fits;
    const double share = layer_share(*file);
    model.lambda1 = flags.lambda * share;
    model.lambda2 = flags.lambda * (1.0 - share);
    if (flags.budget_unit == BudgetUnit::kMilliseconds) model.budget_unit = unit_us(*file) / 1000;
    return model;
  }
  model.lambda1 =
      flags.lambda1.value_or(flags.lambda2 ? flags.lambda - *flags.lambda2 : flags.lambda);
  model.lambda2 = flags.lambda2.value_or(flags.lambda - model.lambda1);
  if (!flags.lambda1 || !flags.lambda2) {
    if (model.lambda1 < 0 || model.lambda2 < 0) {
      return Status(Code::kInvalidArgument, "--lambda1 and --lambda2 are parts of --lambda");
    }
  }
  if (!(model.lambda() >= kLeastAmount)) {
    return Status(
        Code::kInvalidArgument,
        fmt::format("--lambda1 and --lambda2: their sum must be at least {}", kLeastAmount));
  }
  return model;
}

}  // namespace splitee::tools

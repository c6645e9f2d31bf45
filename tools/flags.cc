#include "tools/flags.h"

#include <charconv>
#include <cstdint>
#include <limits>

#include <fmt/format.h>

#include "kernels/kernels.h"
#include "tools/console.h"
#include "tools/costs.h"
#include "transport/endpoint.h"

namespace splitee::tools {

using runtime::Code;
using runtime::Result;
using runtime::Status;

std::optional<int> parse(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
      return app.exit(error);  // --help and --version print to standard output
    }
    print_message(
        fmt::format("{}: {}\nRun with --help for the flags.\n", app.get_name(), error.what()));
    return kExitUsage;
  }
  return std::nullopt;
}

void add_version(CLI::App& app) {
  app.set_version_flag("--version", app.get_name() + " " + SPLITEE_VERSION);
}

namespace {

// Far beyond any use, near enough to 1 that products and sums of squares of them stay finite.
constexpr double kLeastAmount = 1e-12, kMostAmount = 1e12;

// The number, or NaN where the text is not one as a whole.
double parse_number(const std::string& text) {
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
  std::vector<std::string> targets;
  for (const kernels::Kernels* kernels : kernels::compiled_targets()) {
    targets.emplace_back(kernels->target);
  }
  app.add_option("--target", flags.target,
                 "kernel target to force: " + join(targets) +
                     " (default: $SPLITEE_TARGET, else the best that this CPU has)")
      ->type_name("NAME");
  app.add_option("--threads", flags.threads, threads_help)
      ->type_name("N")
      ->check(number_within(1, 256))
      ->capture_default_str();
}

void add_input_format_flag(CLI::App& app, InputFormat& format) {
  add_choice<InputFormat>(app, "--input-format", format,
                          "how the input is laid out: a sample per line, or named columns",
                          {{"text", InputFormat::kLines}, {"tsv", InputFormat::kTsv}});
}

Result<std::shared_ptr<const runtime::Model>> open_model(const ModelFlags& flags,
                                                         const runtime::ModelOptions& options) {
  const std::string name =
      flags.target.empty() ? std::string(kernels::target_from_environment()) : flags.target;
  const kernels::Kernels* kernels = kernels::find_target(name);
  if (kernels == nullptr) {
    return Status(Code::kInvalidArgument,
                  fmt::format("{}: kernel target '{}' is unknown, or this CPU lacks it",
                              flags.target.empty() ? "SPLITEE_TARGET" : "--target", name));
  }
  Result<std::shared_ptr<const runtime::Model>> model =
      runtime::Model::open(flags.path, *kernels, options);
  if (!model.ok()) return not_usage(model.status());
  return model;
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

Result<policy::CostModel> cost_model(const CostFlags& flags) {
  policy::CostModel model;
  model.offload = flags.offload;
  model.mu = flags.mu;
  if (!flags.costs_path.empty()) {
    Result<CostFile> file = read_cost_file(flags.costs_path);
    if (!file.ok()) return file.status();
    const double share = layer_share(*file);
    model.lambda1 = flags.lambda * share;
    model.lambda2 = flags.lambda * (1.0 - share);
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

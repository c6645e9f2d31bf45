// What the three programs share of their command lines: parsing with our exit codes, numbers that
// are checked where CLI11 does not (NaN), the flags of the cost model and of the model file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/status.h"
#include "policy/cost.h"
#include "runtime/loader/loader.h"
#include "runtime/network.h"
#include "tools/common/sample_reader.h"

namespace splitee::tools {

// Parses; on --help, --version or an error prints and returns the exit code to end with.
std::optional<int> parse(CLI::App& app, int argc, char** argv);

// The same for words "name=value" or "name" instead of a command line, without printing:
// kInvalidArgument where one is unknown or has a wrong value.
Status parse_words(CLI::App& app, const std::vector<std::string>& words);

// Adds --version, and --describe, not in --help, which prints description.h's JSON.
void add_version(CLI::App& app);

// --log-format, of the programs that run for long. Takes effect while parsing.
void add_log_format_flag(CLI::App& app);

// A number from low to high; one above 0 (1e-12 .. 1e12); the same, or 0. Bounded so that what is
// computed from several stays finite.
CLI::Validator number_within(double low, double high);
// An endpoint of ZeroMQ that transport/zmq/endpoint.h takes.
CLI::Validator endpoint_text();
// What can be listened on.
CLI::Validator bind_endpoint_text();
CLI::Validator positive_number();
CLI::Validator non_negative_number();
// --seed: a whole number that fits.
void add_seed_flag(CLI::App& app, std::uint64_t& seed, const std::string& help);

// --model, --target and --threads.
struct ModelFlags {
  std::string path;
  std::string target;
  std::size_t threads = 1;
  bool check_whole = false;  // ModelOptions::check_whole
};
void add_model_flags(CLI::App& app, ModelFlags& flags, const std::string& threads_help);
// --target and --threads alone.
void add_machine_flags(CLI::App& app, ModelFlags& flags, const std::string& threads_help);

// An option that takes one of the words of `choices`; the first one is the default.
template <class T>
CLI::Option* add_choice(CLI::App& app, const std::string& flag, T& value, const std::string& help,
                        const std::vector<std::pair<std::string, T>>& choices) {
  std::vector<std::string> words;
  for (const auto& choice : choices) words.push_back(choice.first);
  return app
      .add_option_function<std::string>(
          flag,
          [choices, &value](const std::string& given) {
            for (const auto& [word, meaning] : choices) {
              if (word == given) value = meaning;
            }
          },
          help)
      ->type_name("WORD")
      ->check(CLI::IsMember(words))
      ->default_str(words.front());
}

// --input-format.
void add_input_format_flag(CLI::App& app, InputFormat& format);
// --input and --input-format: the samples of a command.
void add_sample_flags(CLI::App& app, std::string& input, InputFormat& format);

// Picks the kernel target (flag, then SPLITEE_TARGET, then the best) and opens the model.
// kInvalidArgument for a target that is unknown or that this CPU lacks.
Result<std::shared_ptr<const runtime::Network>> open_model(
    const ModelFlags& flags, const runtime::ModelOptions& options = {});

// Fails where its answers are a value or several labels: they have no confidence.
Status check_confidence(const runtime::Network& network);

// What --budget counts in.
enum class BudgetUnit { kLambda, kMilliseconds, kBytes, kMillijoules };

// --lambda, --lambda1, --lambda2, --offload-cost, --mu, --costs and --budget-unit.
struct CostFlags {
  double lambda = 0.1;
  std::optional<double> lambda1, lambda2;
  double offload = 0.5;
  double mu = 1.0;
  std::string costs_path;  // stays empty where the command has no --costs
  BudgetUnit budget_unit = BudgetUnit::kLambda;
};
void add_cost_flags(CLI::App& app, CostFlags& flags);
void add_costs_file_flag(CLI::App& app, CostFlags& flags);
// --budget-unit, beside --budget.
void add_budget_unit_flag(CLI::App& app, CostFlags& flags);

// The cost model that the flags describe; reads the cost file where one is named, which must be
// `network`'s, or, where that is null, of so many `exits` (costs.h). Milliseconds of a budget are
// those of the cost file; kInvalidArgument for a unit that is not known from it.
Result<policy::CostModel> cost_model(const CostFlags& flags, const runtime::Network* network,
                                     std::size_t exits = 0);

// Names or numbers joined by ", " for help texts and messages.
template <class Range>
std::string join(const Range& items) {
  std::string out;
  for (const auto& item : items) {
    if (!out.empty()) out += ", ";
    if constexpr (std::is_integral_v<std::decay_t<decltype(item)>>) {
      out += std::to_string(item);
    } else {
      out += item;
    }
  }
  return out;
}

}  // namespace splitee::tools

#include "tools/common/policy_flags.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>

#include <fmt/format.h>

#include "tools/common/flags.h"

namespace splitee::tools {
namespace {

using policy::OptionInfo;
using policy::PolicyInfo;

// NaN where the text is no value of the option.
double parse_value(const OptionInfo& option, const std::string& text) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  if (!option.words.empty()) {
    const auto found = std::ranges::find(option.words, text);
    if (found == option.words.end()) return kNone;
    return static_cast<double>(found - option.words.begin());
  }
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, value);
  const bool good = problem == std::errc() && stop == end && policy::in_range(option, value);
  return good ? value : kNone;
}

std::string default_text(const OptionInfo& option) {
  const double value = option.get(policy::PolicyOptions{});
  if (std::isnan(value)) return std::string(option.unset);
  if (!option.words.empty()) return std::string(option.words[static_cast<std::size_t>(value)]);
  return fmt::format("{}", value);
}

// The policies that read the option.
std::string readers_of(const OptionInfo& option) {
  std::vector<std::string> names;
  for (const PolicyInfo& info : policy::policy_list()) {
    if (std::ranges::find(info.options, option.name) != info.options.end()) {
      names.emplace_back(info.name);
    }
  }
  constexpr std::size_t kMostNamed = 4;
  if (names.size() > kMostNamed) return "policies below that name it";
  return "policy " + join(names);
}

CLI::Validator in_range(const OptionInfo& option) {
  return CLI::Validator(
      [&option](std::string& text) {
        if (!std::isnan(parse_value(option, text))) return std::string();
        return fmt::format("{} is not {}", text,
                           (option.words.empty() && !option.whole ? "a number " : "") +
                               policy::range_text(option));
      },
      "");
}

}  // namespace

void add_policy_option_flags(CLI::App& app, policy::PolicyOptions& options) {
  for (const OptionInfo& option : policy::option_list()) {
    app.add_option_function<std::string>(
           "--" + std::string(option.name),
           [&option, &options](const std::string& text) {
             option.set(options, parse_value(option, text));
           },
           fmt::format("{}, {} ({})", option.help, policy::range_text(option), readers_of(option)))
        ->type_name(!option.words.empty() ? "WORD"
                    : option.whole        ? "N"
                                          : "X")
        ->check(in_range(option))
        ->default_str(default_text(option));
  }
  app.get_option("--budget")->excludes("--reward");  // two aims
}

std::string unread_options(const CLI::App& app, const std::string& policy) {
  const PolicyInfo* const info = policy::find_policy(policy);
  std::vector<std::string> unread;
  for (const OptionInfo& option : policy::option_list()) {
    const std::string name = "--" + std::string(option.name);
    const bool read =
        info != nullptr && std::ranges::find(info->options, option.name) != info->options.end();
    if (!read && app.count(name) > 0) unread.push_back(name);
  }
  if (!takes_split(policy) && app.count("--split") > 0) unread.emplace_back("--split");
  if (unread.empty()) return {};
  return fmt::format("policy {} does not read {}", policy, join(unread));
}

std::string policy_table(std::span<const PolicyInfo> more) {
  std::string text = "Policies:\n";
  const auto add = [&text](const PolicyInfo& info) {
    std::string flags;
    for (const std::string_view option : info.options) {
      flags += (flags.empty() ? " [--" : ", --") + std::string(option);
    }
    fmt::format_to(std::back_inserter(text), "  {:<16} {}{}\n", info.name, info.summary,
                   flags.empty() ? "" : flags + "]");
  };
  for (const PolicyInfo& info : policy::policy_list()) add(info);
  for (const PolicyInfo& info : more) add(info);
  return text;
}

bool takes_split(const std::string& policy) {
  const PolicyInfo* info = policy::find_policy(policy);
  return info != nullptr && info->looks == policy::Looks::kAtGivenSplit;
}

Result<std::size_t> arm_at(std::optional<std::size_t> split, const std::vector<std::size_t>& layers,
                           const std::string& whose) {
  if (!split) return Status(Code::kInvalidArgument, "this policy needs --split K");
  const auto found = std::ranges::find(layers, *split);
  if (found != layers.end()) return static_cast<std::size_t>(found - layers.begin());
  return Status(Code::kInvalidArgument,
                fmt::format("--split {}: {} exits are at layers {}", *split, whose, join(layers)));
}

}  // namespace splitee::tools

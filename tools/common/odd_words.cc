#include "tools/common/odd_words.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

namespace splitee::tools {

namespace {

// The command that the words are for: the program's own, or the one that is named.
CLI::App& command_in(CLI::App& app, const std::vector<std::string>& words) {
  const auto commands = app.get_subcommands([](CLI::App*) { return true; });
  for (const std::string& word : words) {
    const auto found = std::ranges::find(commands, word, &CLI::App::get_name);
    if (found != commands.end()) return **found;
  }
  return app;
}

// Null where none is called so.
CLI::Option* option_called(CLI::App& command, const std::string& word) {
  return word.starts_with("--") ? command.get_option_no_throw(word.substr(0, word.find('=')))
                                : nullptr;
}

bool takes_stream(const CLI::Option& option) {
  return option.get_description().find("- is standard ") != std::string::npos;
}

// Its own check has a word for it, which says what is wanted.
bool refuses(CLI::Option& option, std::string value) {
  try {
    for (int i = 0;; ++i) {
      if (!(*option.get_validator(i))(value).empty()) return true;
    }
  } catch (const CLI::OptionNotFound&) {
    return false;
  }
}

bool has_empty_part(std::string_view value, char delimiter) {
  const std::string twice(2, delimiter);
  return value.starts_with(delimiter) || value.ends_with(delimiter) ||
         value.find(twice) != std::string_view::npos;
}

std::optional<std::string> odd_value(CLI::Option& option, const std::string& value) {
  if ((value.empty() || value == "-") && refuses(option, value)) return std::nullopt;
  if (value.empty()) return "an empty value";
  if (value == "-" && !takes_stream(option))
    return "- leads not to standard input, and not to standard output (./- is a file)";
  const char delimiter = option.get_delimiter();
  if (delimiter != '\0' && has_empty_part(value, delimiter)) {
    return fmt::format("{}: a number is missing beside a '{}'", value, delimiter);
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> odd_word(CLI::App& app, const std::vector<std::string>& words) {
  CLI::App& command = command_in(app, words);
  const std::string path =
      &command == &app ? app.get_name() : app.get_name() + " " + command.get_name();
  const auto say = [&path](const std::string& name, const std::string& what) {
    return fmt::format("{}: {}: {}", path, name, what);
  };
  for (std::size_t at = 0; at < words.size(); ++at) {
    const std::string& word = words[at];
    if (word == "--") return std::nullopt;  // arguments from here on
    if (word.empty()) return path + ": an empty argument";
    const std::size_t mark = word.find('=');
    const std::string name = word.substr(0, mark);
    CLI::Option* option = option_called(command, word);
    if (option == nullptr || option->get_items_expected_max() == 0) continue;
    if (mark != std::string::npos) {
      // CLI11 takes the next word for the value.
      if (mark + 1 == word.size()) return say(name, "an empty value");
      const auto odd = odd_value(*option, word.substr(mark + 1));
      if (odd) return say(name, *odd);
      continue;
    }
    const int most = option->get_allow_extra_args() ? option->get_items_expected_max() : 1;
    for (int taken = 0; taken < most && at + 1 < words.size(); ++taken) {
      const std::string& value = words[at + 1];
      if (option_called(command, value) != nullptr) {
        // CLI11 takes whatever stands where the first value is wanted.
        if (taken > 0) break;
        return say(name, value + " stands where its value should");
      }
      if (const auto odd = odd_value(*option, value)) return say(name, *odd);
      ++at;
    }
  }
  return std::nullopt;
}

}  // namespace splitee::tools

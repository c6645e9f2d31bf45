#include "tools/common/unknown_words.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/format.h>

namespace splitee::tools {

namespace {

// Characters to change, add or drop, or neighbours to swap, to make one word of the other (optimal
// string alignment).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> rows(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) {
    for (std::size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        rows[i][j] = i + j;
        continue;
      }
      const std::size_t change = rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      rows[i][j] = std::min({change, rows[i - 1][j] + 1, rows[i][j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        rows[i][j] = std::min(rows[i][j], rows[i - 2][j - 2] + 1);
      }
    }
  }
  return rows[a.size()][b.size()];
}

// The innermost command that was recognised.
const CLI::App& command_of(const CLI::App& app) {
  const std::vector<CLI::App*> commands = app.get_subcommands();
  return commands.empty() ? app : command_of(*commands.front());
}

std::vector<const CLI::App*> all_commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::vector<std::string> known_words(const CLI::App& command) {
  std::vector<std::string> words;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
  }
  for (const CLI::App* sub : all_commands(command)) words.push_back(sub->get_name());
  return words;
}

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
  std::string best;
  std::size_t least = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const std::size_t apart = distance(word, candidate);
    if (apart < least) {
      least = apart;
      best = candidate;
    }
  }
  return best;
}

}  // namespace

std::optional<std::string> unknown_word(const CLI::App& app) {
  const std::vector<std::string> words = app.remaining(true);
  if (words.empty()) return std::nullopt;
  const std::string word = words.front().substr(0, words.front().find('='));
  const CLI::App& command = command_of(app);
  const std::string meant = nearest(word, known_words(command));
  std::string path = command.get_name();
  if (&command != &app) path = app.get_name() + " " + path;
  const char* const kind = word.starts_with('-')           ? "flag"
                           : all_commands(command).empty() ? "argument"
                                                           : "command";
  return fmt::format("{}: no {} '{}'{}", path, kind, word,
                     meant.empty() ? "" : "; did you mean " + meant + "?");
}

}  // namespace splitee::tools

#include "tools/common/description.h"

#include <vector>

#include <nlohmann/json.hpp>

namespace splitee::tools {
namespace {

using Json = nlohmann::ordered_json;

Json describe_option(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  if (names.empty()) names.push_back(option.get_name());
  const bool takes_value = option.get_items_expected_max() > 0;
  return {{"names", names},
          {"type", takes_value ? option.get_type_name() : ""},
          {"help", option.get_description()},
          {"default", takes_value ? option.get_default_str() : ""},
          {"required", option.get_required()},
          {"repeatable",
           takes_value && option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll}};
}

Json describe_options(const CLI::App& app, bool positional) {
  Json list = Json::array();
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty() || option->get_positional() != positional) continue;
    list.push_back(describe_option(*option));
  }
  return list;
}

Json describe_app(const CLI::App& app) {
  return {{"name", app.get_name()},
          {"description", app.get_description()},
          {"footer", app.get_footer()},
          {"options", describe_options(app, false)},
          {"positionals", describe_options(app, true)}};
}

}  // namespace

std::string describe(const CLI::App& app) {
  Json result = describe_app(app);
  result["version"] = app.version();
  Json commands = Json::array();
  for (const CLI::App* command : app.get_subcommands({}))
    commands.push_back(describe_app(*command));
  result["commands"] = commands;
  return result.dump(1);
}

}  // namespace splitee::tools

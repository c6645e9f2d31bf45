// splitee: the offline tool.
#include "tools/common/console.h"
#include "tools/common/flags.h"
#include "tools/splitee/commands.h"

namespace splitee::tools {
namespace {

int tool_main(int argc, char** argv) {
  CLI::App app("Looks into models, measures and calibrates them, and replays policies offline.",
               "splitee");
  add_version(app);
  app.require_subcommand(1);
  int exit_code = kExitOk;
  add_fit(app, exit_code);
  add_calibrate(app, exit_code);
  add_compare(app, exit_code);
  add_inspect(app, exit_code);
  add_profile(app, exit_code);
#ifdef SPLITEE_NETWORK_TEXT
  add_tokenize(app, exit_code);
#endif
  add_trace(app, exit_code);
  add_features(app, exit_code);
  add_replay(app, exit_code);
  add_load(app, exit_code);
  add_keygen(app, exit_code);
  app.footer("Exit status: 0; 2 for wrong usage; 1 for an input, model or output error.");
  if (const std::optional<int> code = parse(app, argc, argv)) return *code;
  return exit_code;
}

}  // namespace
}  // namespace splitee::tools

int main(int argc, char** argv) {
  using namespace splitee::tools;
  return run_program("splitee", [&] { return tool_main(argc, argv); });
}

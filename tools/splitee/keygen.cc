#include <memory>

#include "tools/common/console.h"
#include "tools/common/flags.h"
#include "tools/common/keys.h"
#include "tools/splitee/commands.h"

namespace splitee::tools {

namespace {

int keygen(const std::string& prefix) {
  Result<KeyPair> keys = generate_key_pair();
  if (!keys.ok()) return fail("splitee keygen", keys.status());
  const Status status = write_key_pair(prefix, *keys);
  if (!status.ok()) return fail("splitee keygen", status);
  const std::string done =
      fmt::format("{0}.secret (keep it private)\n{0}.public {1}\n", prefix, keys->public_key);
  return finish("splitee keygen", print_output(done));
}

}  // namespace

void add_keygen(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("keygen", "Makes a CURVE key pair for a server or an edge.");
  const auto prefix = std::make_shared<std::string>();
  command
      ->add_option("--output", *prefix,
                   "writes PREFIX.secret (mode 0600) and PREFIX.public; existing ones are kept")
      ->type_name("PREFIX")
      ->check(CLI::Validator(
          [](std::string& text) {
            const bool named = !text.empty() && text.back() != '/';
            return named ? std::string() : "'" + text + "' ends without a name for the files";
          },
          ""))
      ->required();
  command->footer(
      "\nServer: splitee-server --secret-key server.secret --authorized-keys edges.txt, where\n"
      "edges.txt holds the edges' .public lines. Edge: splitee-edge --secret-key edge.secret\n"
      "--server-key server.public.");
  command->callback([prefix, &exit_code] { exit_code = keygen(*prefix); });
}

}  // namespace splitee::tools

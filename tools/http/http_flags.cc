#include "tools/http/http_flags.h"

#include <CLI/CLI.hpp>

namespace splitee::tools {

void add_http_flags(CLI::App& app, HttpFlags& flags, bool insecure_flag) {
  CLI::Option* http =
      app.add_option(
             "--http", flags.endpoint,
             "serve the Open Inference Protocol v2 at http://HOST:PORT/v2, a live page at /, "
             "/metrics and /healthz (default: off); port 0 takes a free one; beyond loopback "
             "it needs --http-token-file or --insecure")
          ->type_name("HOST:PORT");
  app.add_option(
         "--http-token-file", flags.token_path,
         "file of one line: what clients of --http must send as Authorization: Bearer TOKEN")
      ->type_name("FILE")
      ->needs(http);
  if (!insecure_flag) return;
  app.add_flag("--insecure", flags.insecure, "allow --http beyond loopback without a token")
      ->needs(http);
}

}  // namespace splitee::tools

// The flags of a program that serves over HTTP.
// Thread rule: one thread.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace splitee::tools {

// --http, --http-token-file and --insecure.
struct HttpFlags {
  std::string endpoint;  // empty: nothing is served
  std::string token_path;
  bool insecure = false;
};
// `insecure_flag`: where the program has no flag of that name already.
void add_http_flags(CLI::App& app, HttpFlags& flags, bool insecure_flag);

}  // namespace splitee::tools

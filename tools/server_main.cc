// splitee-server: finishes the samples that edges send.
#include <thread>

#include <signal.h>

#include "runtime/hash.h"
#include "tools/console.h"
#include "tools/flags.h"
#include "tools/keys.h"
#include "tools/metrics.h"
#include "transport/endpoint.h"
#include "transport/server.h"

namespace splitee::tools {
namespace {

using runtime::Code;
using runtime::Result;
using runtime::Status;

struct Options {
  ModelFlags model;
  transport::ServerOptions server;
  std::string secret_key_path, authorized_keys_path;
  std::string metrics;
  bool insecure = false;
};

constexpr const char* kFooter = R"(
Prints "listening on ENDPOINT" to standard output once it takes work; everything else goes to
standard error. SIGTERM and SIGINT: new requests are refused, those accepted are answered, then it
ends with status 0. A second signal ends it at once.
Keys come from `splitee keygen`. Without them the link is neither encrypted nor authenticated.
Exit status: 0; 2 for wrong usage; 1 for a model, key or start-up error.)";

std::optional<int> parse_options(int argc, char** argv, Options& options) {
  CLI::App app("Finishes the samples that splitee-edge sends it, with the same model.",
               "splitee-server");
  add_version(app);
  add_model_flags(app, options.model, "requests computed at the same time, a thread each");
  app.add_option("--bind", options.server.endpoint,
                 "address to listen on, e.g. tcp://0.0.0.0:5555; port * takes a free one; beyond "
                 "loopback it needs keys or --insecure")
      ->type_name("ENDPOINT")
      ->capture_default_str();
  app.add_option("--max-batch", options.server.max_batch,
                 "requests that a thread takes from the queue at once")
      ->type_name("N")
      ->check(number_within(1, 1024))
      ->capture_default_str();
  app.add_option("--max-queue", options.server.max_queue,
                 "requests that may wait; beyond it they are refused as busy")
      ->type_name("N")
      ->check(number_within(1, 1e6))
      ->capture_default_str();
  CLI::Option* secret =
      app.add_option("--secret-key", options.secret_key_path,
                     "this server's PREFIX.secret file; encrypts the link (CURVE)")
          ->type_name("FILE");
  secret->needs(app.add_option("--authorized-keys", options.authorized_keys_path,
                               "file of the edges' public keys, one a line; others are not let in")
                    ->type_name("FILE")
                    ->needs(secret));
  app.add_flag("--insecure", options.insecure, "allow an address beyond loopback without keys")
      ->excludes(secret);
  app.add_option("--metrics", options.metrics,
                 "serve Prometheus text at http://HOST:PORT/metrics, and /healthz (default: off)")
      ->type_name("HOST:PORT");
  app.footer(kFooter);
  return parse(app, argc, argv);
}

Status prepare_keys(Options& options) {
  if (options.secret_key_path.empty()) {
    if (options.insecure || transport::is_loopback_endpoint(options.server.endpoint)) return {};
    return Status(Code::kUnsupported,
                  "--bind " + options.server.endpoint +
                      " can be reached from other machines: give --secret-key and "
                      "--authorized-keys, or --insecure to do without");
  }
  Result<KeyPair> keys = read_secret_key(options.secret_key_path);
  if (!keys.ok()) return keys.status();
  Result<std::vector<std::string>> authorized = read_public_keys(options.authorized_keys_path);
  if (!authorized.ok()) return authorized.status();
  options.server.curve = {keys->public_key, keys->secret_key, std::move(*authorized)};
  return {};
}

// ZeroMQ names an IPv4 address that it bound through an IPv6 socket "[::ffff:127.0.0.1]".
std::string plain_address(const std::string& endpoint) {
  const std::string mapped = "tcp://[::ffff:";
  const std::size_t end = endpoint.find(']');
  if (!endpoint.starts_with(mapped) || end == std::string::npos) return endpoint;
  const std::string address = endpoint.substr(mapped.size(), end - mapped.size());
  if (address.find('.') == std::string::npos) return endpoint;
  return "tcp://" + address + endpoint.substr(end + 1);
}

// Serves until the first SIGINT or SIGTERM, both blocked in every thread by main().
void serve(transport::Server& server, MetricsServer* metrics, const sigset_t& signals) {
  std::thread waiter([&] {
    int signal_number = 0;
    sigwait(&signals, &signal_number);
    if (metrics != nullptr) metrics->set_draining();
    server.stop();
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);  // the next one ends the process
  });
  server.run();
  waiter.join();
}

Status run(Options& options, const sigset_t& signals) {
  if (Status status = prepare_keys(options); !status.ok()) return status;
  Result<std::shared_ptr<const runtime::Model>> model = open_model(options.model);
  if (!model.ok()) return model.status();
  options.server.threads = options.model.threads;
  Result<std::unique_ptr<transport::Server>> server =
      transport::Server::create(*model, options.server);
  if (!server.ok()) return server.status();
  const std::string hash = runtime::hash_to_string((*model)->hash());
  std::unique_ptr<MetricsServer> metrics;
  if (!options.metrics.empty()) {
    Result<std::unique_ptr<MetricsServer>> started =
        MetricsServer::start(options.metrics, (*server)->counters(), hash);
    if (!started.ok()) return started.status();
    metrics = std::move(*started);
    print_message(fmt::format("splitee-server: metrics at {}/metrics\n", metrics->url()));
  }
  print_message(fmt::format("splitee-server: model {} ({}), kernels {}, {} thread(s)\n",
                            (*model)->path(), hash, (*model)->kernels().target,
                            options.model.threads));
  Status status =
      print_output(fmt::format("listening on {}\n", plain_address((*server)->endpoint())));
  if (!status.ok()) return status;
  serve(**server, metrics.get(), signals);
  const transport::ServerCounters& counters = (*server)->counters();
  print_message(fmt::format("splitee-server: stopped after {} requests, {} answered\n",
                            counters.requests.load(), counters.replies.load()));
  return {};
}

int server_main(int argc, char** argv) {
  Options options;
  if (const std::optional<int> code = parse_options(argc, argv, options)) return *code;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return finish("splitee-server", run(options, signals));
}

}  // namespace
}  // namespace splitee::tools

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);  // whoever reads our standard output may go away
  return splitee::tools::server_main(argc, argv);
}
